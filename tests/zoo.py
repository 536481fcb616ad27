"""A small random instance of every kind of timm model that the package supports, and where its neurons are.

Written from timm's sources alone and shared with nothing in the package: these are the expectations that adapters meet.
Blocks, tokens and widths follow the method's rules of scope; the literal oracle takes them as they are.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import numpy as np
import pytest
import torch
from scipy.special import roots_legendre
from torch import Tensor, nn

from tests import oracle

N_CLASSES = 5
ScopeName = Literal["cls", "patch"]
EVERY = slice(None)


@dataclass(frozen=True)
class Timm:
    """Something of timm by its name, looked up when needed, with arguments of its own."""

    path: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    called: bool = False

    def resolve(self) -> Any:
        """The class or function with its arguments bound; called, if it is to be given as an object."""
        module, name = self.path.rsplit(".", 1)
        found = getattr(importlib.import_module(f"timm.{module}"), name)
        bound = partial(found, **self.values()) if self.arguments else found
        return bound() if self.called else bound

    def values(self) -> dict[str, Any]:
        return {key: value.resolve() if isinstance(value, Timm) else value for key, value in self.arguments.items()}


@dataclass(frozen=True)
class Scope:
    """Where the neurons of a token scope are.

    Attributes:
        blocks: Every counted block's sites, in order; its neurons are theirs, one site after another.
        tokens: The in-scope tokens on the token axis of a site's input, flattened to (N, T, F).
        lengths: T of every counted block.
        n_neurons: F of every counted block.
        pooled: Whether activations and gradients are averaged over tokens before they are multiplied.
    """

    blocks: tuple[tuple[oracle.Site, ...], ...]
    tokens: slice
    lengths: tuple[int, ...]
    n_neurons: tuple[int, ...]
    pooled: bool = False


@dataclass(frozen=True)
class Specimen:
    """One small random model.

    Attributes:
        name: Family and what is special.
        family: The timm module.
        model: The class and its arguments.
        scopes: The token scopes it has.
        default_scope: The one that follows from its pooling.
        image: (channels, height, width).
        kinks: Why the target function has kinks, if it has: there quadrature converges slowly.
        precision: How nearly two ways to compute the same in float64 agree, relative: some of timm's layers compute in
            float32 whatever comes.
    """

    name: str
    family: str
    model: Timm
    scopes: Mapping[ScopeName, Scope]
    default_scope: ScopeName
    image: tuple[int, int, int] = (3, 8, 8)
    kinks: str = ""
    precision: float = 1e-9

    def make(self, seed: int = 0, dtype: torch.dtype = torch.float64) -> nn.Module:
        """The model with random weights, for evaluation."""
        with torch.random.fork_rng(devices=[]):
            model = self.model.resolve()().to(torch.float64)
        randomise(model, seed)
        return model.to(dtype).eval()

    def images(self, n: int = 3, seed: int = 1, dtype: torch.dtype = torch.float64) -> Tensor:
        """Random images; the same first ones for any number."""
        generator = torch.Generator().manual_seed(seed)
        images = [torch.randn(self.image, generator=generator, dtype=torch.float64) for _ in range(n)]
        return torch.stack(images).to(dtype)

    def literal(
        self,
        model: nn.Module,
        scope: ScopeName | None = None,
        rule: str = "gauss_legendre",
        n_steps: int = 5,
        target_function: str = "probability",
    ) -> oracle.Setting:
        """The oracle's setting, its quadrature from scipy or spelt out."""
        if rule == "gauss_legendre":
            nodes, weights = roots_legendre(n_steps)
            alpha, omega = torch.from_numpy((nodes + 1) / 2), torch.from_numpy(weights / 2)
        else:
            assert rule == "riemann_left"
            alpha = torch.from_numpy(np.array([k / n_steps for k in range(n_steps)]))
            omega = torch.full_like(alpha, 1 / n_steps)
        where = self.scopes[scope or self.default_scope]
        return oracle.Setting(model, where.tokens, alpha, omega, where.blocks, where.pooled, target_function)

    def random_paths(self, n: int, k: int = 1, scope: ScopeName | None = None, seed: int = 2) -> list[list[list[int]]]:
        """For each of n images, for every counted block, k distinct random neurons."""
        generator = torch.Generator().manual_seed(seed)
        counts = self.scopes[scope or self.default_scope].n_neurons
        return [[torch.randperm(count, generator=generator)[:k].tolist() for count in counts] for _ in range(n)]


def randomise(model: nn.Module, seed: int) -> None:
    """Weights so large that no gradient is tiny: gates, gammas, position biases and batch statistics included."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in model.modules():
            for name, value in [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]:
                noise = torch.randn(value.shape, generator=generator, dtype=torch.float64)
                if name == "running_mean":
                    value.copy_(0.3 * noise)
                elif name == "running_var":
                    value.copy_((0.3 * noise).exp())
                elif name in ("input_min", "output_min", "input_max", "output_max"):
                    value.fill_(-1.0 if name.endswith("min") else 1.0)
                elif not isinstance(value, nn.Parameter):
                    continue
                elif isinstance(module, nn.Linear | nn.Conv2d):
                    value.copy_(0.3 * noise if name == "bias" else 1.2 * noise / value[0].numel() ** 0.5)
                elif name.startswith(("weight", "gamma", "temperature")):
                    value.copy_(1 + 0.3 * noise)
                else:
                    value.copy_((0.5 if value.ndim > 1 else 0.3) * noise)


def sites(pattern: str | Sequence[str], indices: Sequence[int] | range, columns: slice = EVERY) -> Any:
    """Every block's sites: the pattern, or one after another of several, with the block's index in it."""
    patterns = [pattern] if isinstance(pattern, str) else pattern
    return tuple(tuple(oracle.Site(one.format(index), columns) for one in patterns) for index in indices)


def scope(
    tokens: slice,
    length: int,
    n_neurons: int,
    pattern: str | Sequence[str] = "blocks.{}.mlp.fc2",
    indices: Sequence[int] | range = range(3),
    columns: slice = EVERY,
) -> Scope:
    """A scope all of whose blocks are alike."""
    n_blocks = len(indices)
    return Scope(sites(pattern, indices, columns), tokens, (length,) * n_blocks, (n_neurons,) * n_blocks)


def whole(patches: int, n_neurons: int, prefix: int = 1, cls: int = 1, **where: Any) -> dict[ScopeName, Scope]:
    """Scopes of a model whose class token, if it has one, is there from the first block on."""
    length = prefix + patches
    scopes: dict[ScopeName, Scope] = {"patch": scope(slice(prefix, None), length, n_neurons, **where)}
    if cls:
        scopes["cls"] = scope(slice(0, cls), length, n_neurons, **where)
    return scopes


def patches_only(patches: int, n_neurons: int, prefix: int = 0, **where: Any) -> dict[ScopeName, Scope]:
    return whole(patches, n_neurons, prefix, cls=0, **where)


def image_of(arguments: Mapping[str, Any]) -> tuple[int, int, int]:
    """The image that these arguments of a model ask for."""
    size = arguments["img_size"]
    height, width = size if isinstance(size, tuple) else (size, size)
    return 3, height, width


def kinks_of(arguments: Mapping[str, Any]) -> str:
    return "the head takes maxima over tokens" if "max" in arguments.get("global_pool", "") else ""


VIT: dict[str, Any] = {
    "img_size": 8,
    "patch_size": 4,
    "embed_dim": 16,
    "depth": 3,
    "num_heads": 2,
    "mlp_ratio": 1.5,
    "num_classes": N_CLASSES,
}


def vision_transformer(
    kind: str, scopes: Mapping[ScopeName, Scope] | None = None, default: ScopeName = "cls", **arguments: Any
) -> Specimen:
    arguments = VIT | arguments
    return Specimen(
        f"vit-{kind}",
        "vision_transformer",
        Timm("models.vision_transformer.VisionTransformer", arguments),
        scopes or whole(4, 24),
        default,
        image_of(arguments),
        kinks_of(arguments),
    )


def vision_transformers() -> Iterator[Specimen]:
    vit = vision_transformer
    layer = "models.vision_transformer."
    yield vit("cls")
    yield vit("oblong", whole(6, 24), img_size=(8, 12))
    yield vit("registers", whole(4, 24, prefix=3), reg_tokens=2)
    yield vit("layer_scale", init_values=0.5)
    yield vit("norm_pre", pre_norm=True, no_embed_class=True)
    yield vit("qk_norm", qk_norm=True)
    yield vit("inner_norms", scale_attn_norm=True, scale_mlp_norm=True, qkv_bias=False)
    yield vit("no_proj_bias", proj_bias=False)
    yield vit("dynamic", dynamic_img_size=True)
    yield vit("no_position", pos_embed="none")
    yield vit("no_final_norm", final_norm=False)
    yield vit("cls_fc_norm", fc_norm=True)
    rates = ("drop_rate", "pos_drop_rate", "patch_drop_rate", "proj_drop_rate", "attn_drop_rate", "drop_path_rate")
    yield vit("dropouts", **dict.fromkeys(rates, 0.3))
    # Heads that pool patch tokens.
    yield vit("avg", default="patch", global_pool="avg")
    yield vit("avg_registers", whole(4, 24, prefix=3), "patch", global_pool="avg", reg_tokens=2, fc_norm=False)
    yield vit("avg_no_class", patches_only(4, 24), "patch", global_pool="avg", class_token=False)
    yield vit(
        "avg_no_class_registers", patches_only(4, 24, 2), "patch", global_pool="avg", class_token=False, reg_tokens=2
    )
    yield vit("avg_with_prefix", default="patch", global_pool="avg", pool_include_prefix=True)
    yield vit("max", default="patch", global_pool="max")
    yield vit("avgmax", default="patch", global_pool="avgmax")
    yield vit("map", patches_only(4, 24), "patch", global_pool="map", class_token=False)
    yield vit("map_cls", default="patch", global_pool="map")
    yield vit("prr", patches_only(4, 24), "patch", global_pool="prr", class_token=False)
    # Blocks of other shapes.
    separate: dict[str, Any] = {"pattern": "blocks.{}.mlp_out_proj"}
    fused: dict[str, Any] = {"pattern": "blocks.{}.out_proj", "columns": slice(-24, None)}
    scaling = f"{layer}ParallelScalingBlock"
    yield vit("parallel_scaling", whole(4, 24, **separate), block_fn=Timm(scaling), init_values=0.5)
    yield vit(
        "parallel_scaling_mlp_bias", whole(4, 24, **separate), block_fn=Timm(scaling), qkv_bias=False, qk_norm=True
    )
    yield vit("parallel_scaling_fused", whole(4, 24, **fused), block_fn=Timm(scaling, {"fuse_out_proj": True}))
    yield vit("diff_parallel_scaling", whole(4, 24, **fused), block_fn=Timm(f"{layer}DiffParallelScalingBlock"))
    ffns: dict[str, Any] = {"pattern": ("blocks.{}.ffns.0.mlp.fc2", "blocks.{}.ffns.1.mlp.fc2")}
    yield vit("parallel_things", whole(4, 48, **ffns), block_fn=Timm(f"{layer}ParallelThingsBlock"), init_values=0.5)
    yield vit(
        "parallel_things_avg",
        whole(4, 48, **ffns),
        "patch",
        block_fn=Timm(f"{layer}ParallelThingsBlock"),
        global_pool="avg",
    )
    yield vit("res_post", block_fn=Timm(f"{layer}ResPostBlock"), init_values=0.5)
    yield vit("res_post_avg", default="patch", block_fn=Timm(f"{layer}ResPostBlock"), global_pool="avg")
    yield vit("diff_attention", attn_layer="diff")
    # Gated FFNs: the first layer's width is shared by value and gate where they are packed.
    yield vit("glu", whole(4, 12), mlp_layer=Timm("layers.GluMlp"))
    yield vit("swiglu_packed", whole(4, 12), mlp_layer=Timm("layers.SwiGLUPacked"), scale_mlp_norm=True)
    yield vit("swiglu", mlp_layer=Timm("layers.SwiGLU"), init_values=0.5)
    yield vit(
        "swiglu_norm_avg", default="patch", mlp_layer=Timm("layers.SwiGLU"), scale_mlp_norm=True, global_pool="avg"
    )
    yield vit("gated_mlp", mlp_layer=Timm("layers.GatedMlp"))


def deits() -> Iterator[Specimen]:
    distilled = "models.deit.VisionTransformerDistilled"
    yield Specimen("deit-distilled", "deit", Timm(distilled, VIT), whole(4, 24, prefix=2, cls=2), "cls")
    yield Specimen(
        "deit-distilled_layer_scale",
        "deit",
        Timm(distilled, VIT | {"init_values": 0.5}),
        whole(4, 24, prefix=2, cls=2),
        "cls",
    )


def eva(
    kind: str, scopes: Mapping[ScopeName, Scope] | None = None, default: ScopeName = "patch", **arguments: Any
) -> Specimen:
    arguments = VIT | arguments
    return Specimen(
        f"eva-{kind}",
        "eva",
        Timm("models.eva.Eva", arguments),
        scopes or whole(4, 24),
        default,
        image_of(arguments),
        kinks_of(arguments),
    )


def evas() -> Iterator[Specimen]:
    rope: dict[str, Any] = {"use_rot_pos_emb": True}
    only_rope: dict[str, Any] = rope | {"use_abs_pos_emb": False}
    yield eva("avg")
    yield eva("cls", default="cls", global_pool="token", qkv_fused=False)
    yield eva("avgmax", global_pool="avgmax")
    yield eva("rope-swiglu", swiglu_mlp=True, ref_feat_shape=(2, 2), **rope)
    yield eva("rope-swiglu_norm", swiglu_mlp=True, scale_mlp=True, scale_attn_inner=True, qkv_fused=False, **rope)
    yield eva(
        "rope_mixed",
        default="cls",
        global_pool="token",
        rope_type="mixed",
        attn_type="rope",
        init_values=0.5,
        **only_rope,
    )
    yield eva("rope_mixed-swiglu", rope_type="mixed", swiglu_mlp=True, **rope)
    yield eva("rope-oblong", whole(6, 24), img_size=(8, 12), **rope)
    yield eva("rope_mixed-oblong", whole(6, 24), img_size=(8, 12), rope_type="mixed", **only_rope)
    yield eva("post_norm", use_post_norm=True)
    yield eva("post_norm-swiglu_norm", use_post_norm=True, swiglu_mlp=True, scale_mlp=True, **rope)
    perception: dict[str, Any] = rope | {
        "global_pool": "map",
        "attn_type": "rope",
        "use_pre_transformer_norm": True,
        "rope_grid_offset": 1.0,
        "rope_grid_indexing": "xy",
        "attn_pool_num_heads": 4,
        "attn_pool_mlp_ratio": 2.0,
    }
    yield eva("perception", **perception)
    yield eva("perception_no_class", patches_only(4, 24), class_token=False, **perception)
    dino: dict[str, Any] = only_rope | {
        "rope_type": "dinov3",
        "rope_rotate_half": True,
        "rope_temperature": 100.0,
        "num_reg_tokens": 4,
        "use_fc_norm": False,
        "dynamic_img_size": True,
        "qkv_bias": False,
        "init_values": 0.5,
    }
    yield eva("dinov3", whole(4, 24, prefix=5), **dino)
    yield eva("dinov3_cls", whole(4, 24, prefix=5), "cls", global_pool="token", **dino)
    yield eva("dinov3-swiglu", whole(4, 24, prefix=5), swiglu_mlp=True, swiglu_align_to=8, **dino)
    grouped: dict[str, Any] = {"num_kv_heads": 1, "qkv_fused": False, "attn_type": "rope", "qk_norm": True}
    yield eva("grouped_query", init_values=0.5, attn_only_layer_scale=True, **grouped, **only_rope)


def beits() -> Iterator[Specimen]:
    def beit(kind: str, default: ScopeName, **arguments: Any) -> Specimen:
        model, image = Timm("models.beit.Beit", VIT | arguments), image_of(VIT | arguments)
        return Specimen(f"beit-{kind}", "beit", model, whole(image[1] * image[2] // 16, 24), default, image)

    yield beit("bias", "patch", use_rel_pos_bias=True, use_abs_pos_emb=False, init_values=0.5)
    yield beit("shared_bias", "patch", use_shared_rel_pos_bias=True, use_abs_pos_emb=False)
    yield beit("cls", "cls", global_pool="token", use_rel_pos_bias=True, init_values=0.5)
    yield beit("both_biases", "cls", global_pool="token", use_rel_pos_bias=True, use_shared_rel_pos_bias=True)
    yield beit("oblong", "patch", use_rel_pos_bias=True, img_size=(8, 12))
    yield beit("swiglu_norm", "patch", swiglu_mlp=True, scale_mlp=True)


def relative_positions() -> Iterator[Specimen]:
    def relpos(kind: str, scopes: Mapping[ScopeName, Scope], default: ScopeName, **arguments: Any) -> Specimen:
        model = Timm("models.vision_transformer_relpos.VisionTransformerRelPos", VIT | {"init_values": 0.5} | arguments)
        image = image_of(VIT | arguments)
        return Specimen(f"relpos-{kind}", "vision_transformer_relpos", model, scopes, default, image)

    post = Timm("models.vision_transformer_relpos.ResPostRelPosBlock")
    yield relpos("mlp", patches_only(4, 24), "patch", rel_pos_dim=8)
    yield relpos("bias", patches_only(4, 24), "patch", rel_pos_type="bias", fc_norm=True, init_values=None)
    yield relpos("oblong", patches_only(6, 24), "patch", rel_pos_type="bias", img_size=(8, 12))
    yield relpos("shared", patches_only(4, 24), "patch", shared_rel_pos=True, rel_pos_dim=8)
    yield relpos("cls", whole(4, 24), "cls", class_token=True, global_pool="token", rel_pos_type="bias", qk_norm=True)
    yield relpos("cls_shared", whole(4, 24), "cls", class_token=True, global_pool="token", shared_rel_pos=True)
    yield relpos("avg_cls", whole(4, 24), "patch", class_token=True, rel_pos_dim=8)
    yield relpos("res_post", patches_only(4, 24), "patch", block_fn=post, rel_pos_dim=8)
    yield relpos("res_post_shared", patches_only(4, 24), "patch", block_fn=post, shared_rel_pos=True, rel_pos_dim=8)
    yield relpos(
        "res_post_cls", whole(4, 24), "cls", block_fn=post, class_token=True, global_pool="token", rel_pos_dim=8
    )


def hybrids() -> Iterator[Specimen]:
    def hybrid(kind: str, backbone: Timm, embed: dict[str, Any], default: ScopeName, **arguments: Any) -> Specimen:
        layer = Timm("layers.HybridEmbed", {"backbone": backbone} | embed)
        model = Timm(
            "models.vision_transformer.VisionTransformer",
            VIT | {"img_size": 16, "patch_size": 1, "embed_layer": layer} | arguments,
        )
        scopes = whole(16, 24) if arguments.get("class_token", True) else patches_only(16, 24)
        return Specimen(f"hybrid-{kind}", "vision_transformer_hybrid", model, scopes, default, (3, 16, 16))

    stem = Timm(
        "models.vision_transformer_hybrid.ConvStem", {"depth": 2, "channels": (8, 16), "stride": (2, 2)}, called=True
    )
    yield hybrid("conv_stem", stem, {"proj": False}, "patch", class_token=False, global_pool="avg")
    resnet = Timm("models.vision_transformer_hybrid._resnetv2", {"layers": ()}, called=True)
    yield hybrid("resnetv2_stem", resnet, {}, "cls")


def vitamins() -> Iterator[Specimen]:
    shape = Timm("models.vitamin.VitCfg", {"embed_dim": (8, 8, 16), "depths": (1, 1, 1), "stem_width": 8}, called=True)
    backbone = Timm("models.vitamin.MbConvStages", {"cfg": shape}, called=True)
    arguments = VIT | {
        "img_size": 32,
        "patch_size": 1,
        "embed_layer": Timm("layers.HybridEmbed", {"backbone": backbone, "proj": False}),
        "mlp_layer": Timm("models.vitamin.GeGluMlp"),
        "class_token": False,
        "global_pool": "avg",
    }
    model = Timm("models.vision_transformer.VisionTransformer", arguments)
    scopes = patches_only(4, 24, pattern="blocks.{}.mlp.w2")
    yield Specimen("vitamin-avg", "vitamin", model, scopes, "patch", (3, 32, 32))


def segment_anythings() -> Iterator[Specimen]:
    def sam(kind: str, **arguments: Any) -> Specimen:
        windows: dict[str, Any] = {
            "img_size": 12,
            "window_size": 2,
            "global_attn_indexes": (1,),
        }  # 3 × 3 patches: windows are padded
        arguments = VIT | windows | arguments
        model, image = Timm("models.vision_transformer_sam.VisionTransformerSAM", arguments), image_of(arguments)
        scopes = patches_only(image[1] * image[2] // 16, 24)
        return Specimen(f"sam-{kind}", "vision_transformer_sam", model, scopes, "patch", image)

    yield sam("neck", use_rel_pos=True, neck_chans=12)
    yield sam("oblong", use_rel_pos=True, neck_chans=12, img_size=(8, 12))
    yield sam("no_neck", neck_chans=0, init_values=0.5)
    yield sam("hidden_head", neck_chans=0, head_hidden_size=12, use_rel_pos=True, use_abs_pos=False, pre_norm=True)
    yield sam("rope", neck_chans=12, use_rope=True, qk_norm=True)


def naflexes() -> Iterator[Specimen]:
    def naflex(kind: str, scopes: Mapping[ScopeName, Scope], default: ScopeName, **arguments: Any) -> Specimen:
        model = Timm("models.naflexvit.NaFlexVit", VIT | {"pos_embed_grid_size": (2, 2)} | arguments)
        image = image_of(VIT | arguments)
        return Specimen(f"naflex-{kind}", "naflexvit", model, scopes, default, image, kinks_of(arguments))

    cls: dict[str, Any] = {"class_token": True, "global_pool": "token"}
    yield naflex("map", patches_only(4, 24), "patch")
    yield naflex("cls", whole(4, 24, prefix=3), "cls", reg_tokens=2, init_values=0.5, **cls)
    yield naflex("avg", whole(4, 24, prefix=3), "patch", reg_tokens=2, class_token=True, global_pool="avg")
    yield naflex("avgmax", patches_only(4, 24), "patch", global_pool="avgmax", pos_embed="factorized", qk_norm=True)
    yield naflex(
        "conv", patches_only(4, 24), "patch", global_pool="avg", embed_proj_type="conv", pos_embed_grid_size=(3, 3)
    )
    yield naflex("rope", whole(4, 24), "cls", rope_type="axial", swiglu_mlp=True, scale_mlp_norm=True, **cls)
    yield naflex("rope_mixed", patches_only(4, 24), "patch", rope_type="mixed", pos_embed="none", attn_gated=True)
    yield naflex("rope_oblong", patches_only(6, 24), "patch", rope_type="axial", img_size=(8, 12))
    yield naflex("res_post", patches_only(4, 24), "patch", block_fn=Timm("models.vision_transformer.ResPostBlock"))


def late_class_tokens() -> Iterator[Specimen]:
    """The class token joins late: `patch` runs over the blocks before, `cls` over those from then on."""
    convit = Timm("models.convit.ConVit", VIT | {"embed_dim": 4, "num_heads": 4, "depth": 4, "local_up_to_layer": 2})
    scopes: dict[ScopeName, Scope] = {
        "patch": scope(EVERY, 4, 24, indices=(0, 1)),
        "cls": scope(slice(0, 1), 5, 24, indices=(2, 3)),
    }
    yield Specimen("convit-cls", "convit", convit, scopes, "patch")
    yield Specimen(
        "convit-avg", "convit", Timm(convit.path, {**convit.arguments, "global_pool": "avg"}), scopes, "patch"
    )

    cait: dict[str, Any] = {"depth_token_only": 2, "mlp_ratio_token_only": 1.25, "init_values": 0.5}
    for pool in ("token", "avg"):
        scopes = {"patch": scope(EVERY, 4, 24)}
        if pool == "token":  # else nothing reads the class token
            scopes["cls"] = scope(slice(0, 1), 1, 20, "blocks_token_only.{}.mlp.fc2", (0, 1))
        model = Timm("models.cait.Cait", VIT | cait | {"global_pool": pool})
        yield Specimen(f"cait-{pool}", "cait", model, scopes, "patch")

    xcit: dict[str, Any] = {"img_size": 24, "patch_size": 8, "cls_attn_layers": 2}
    for kind, extra in {"cls": {}, "tokens_norm": {"tokens_norm": True, "eta": 0.5}}.items():
        scopes = {
            "patch": scope(EVERY, 9, 24),
            "cls": scope(slice(0, 1), 1, 24, "cls_attn_blocks.{}.mlp.fc2", (0, 1)),
        }
        model = Timm("models.xcit.Xcit", VIT | xcit | extra)
        yield Specimen(f"xcit-{kind}", "xcit", model, scopes, "patch", (3, 24, 24))


def transformers_in_transformers() -> Iterator[Specimen]:
    shape: dict[str, Any] = {key: value for key, value in VIT.items() if key != "num_heads"} | {
        "img_size": 16,
        "patch_size": 8,
        "inner_dim": 8,
        "num_heads_inner": 2,
        "num_heads_outer": 2,
    }
    for kind, extra in {"new": {}, "legacy": {"legacy": True}, "avg": {"global_pool": "avg"}}.items():
        default: ScopeName = "patch" if kind == "avg" else "cls"
        yield Specimen(f"tnt-{kind}", "tnt", Timm("models.tnt.TNT", shape | extra), whole(4, 24), default, (3, 16, 16))


def hieras() -> Iterator[Specimen]:
    shape: dict[str, Any] = {
        "img_size": (32, 32),
        "num_classes": N_CLASSES,
        "embed_dim": 8,
        "num_heads": 1,
        "stages": (1, 1, 2),
        "q_pool": 2,
        "mask_unit_size": (4, 4),
        "mask_unit_attn": (True, True, False),
        "mlp_ratio": 1.5,
    }
    pooled = Scope(sites("blocks.{}.mlp.fc2", range(4)), EVERY, (64, 16, 4, 4), (12, 24, 48, 48), pooled=True)
    position: dict[str, Any] = {
        "abs_win_pos_embed": True,
        "global_pos_size": (4, 4),
        "use_expand_proj": False,
        "init_values": 0.5,
    }
    for kind, extra in {"plain": {}, "window_positions": position}.items():
        yield Specimen(
            f"hiera-{kind}",
            "hiera",
            Timm("models.hiera.Hiera", shape | extra),
            {"patch": pooled},
            "patch",
            (3, 32, 32),
            kinks="between stages it takes maxima over four tokens",
        )


def of_language_models() -> Iterator[Specimen]:
    """Vision encoders of language models, with a classifier."""
    shape: dict[str, Any] = {key: value for key, value in VIT.items() if key != "mlp_ratio"}
    gemma: dict[str, Any] = shape | {"head_dim": 8, "intermediate_size": 24, "position_embedding_size": 4}
    down = patches_only(4, 24, pattern="encoder.blocks.{}.mlp.down_proj")
    yield Specimen("gemma4-avg", "gemma4_vit", Timm("models.gemma4_vit.Gemma4VitClassifier", gemma), down, "patch")
    inner = patches_only(4, 24, pattern="encoder.blocks.{}.mlp.down_proj.linear")
    clipped = Timm("models.gemma4_vit.Gemma4VitClassifier", gemma | {"use_clipped_linears": True})
    yield Specimen("gemma4-clipped", "gemma4_vit", clipped, inner, "patch", kinks="its layers clip")
    second = patches_only(4, 24, pattern="encoder.blocks.{}.mlp.fc2")
    deepseek = Timm("models.deepseek_vit.DeepseekVitClassifier", VIT)
    yield Specimen("deepseek-avg", "deepseek_vit", deepseek, second, "patch", precision=1e-5)
    qwen = Timm("models.qwen3_vit.Qwen3VitClassifier", VIT | {"pos_embed_grid_size": 3})
    yield Specimen("qwen3-avg", "qwen3_vit", qwen, second, "patch")


def gathered() -> Iterator[Specimen]:
    for family in (
        vision_transformers,
        deits,
        evas,
        beits,
        relative_positions,
        hybrids,
        vitamins,
        segment_anythings,
        naflexes,
        late_class_tokens,
        transformers_in_transformers,
        hieras,
        of_language_models,
    ):
        yield from family()


# By name. `CASES` is every specimen with each of its scopes.
SPECIMENS = {specimen.name: specimen for specimen in gathered()}
CASES: list[tuple[str, ScopeName]] = [
    (name, scope_name) for name, specimen in SPECIMENS.items() for scope_name in specimen.scopes
]
# One specimen for every way in which a family reads its blocks, its tokens or its head; the others are variations.
TYPICAL = {
    "vit-cls",
    "vit-registers",
    "vit-avg",
    "vit-parallel_scaling",
    "vit-parallel_scaling_fused",
    "vit-parallel_things",
    "vit-res_post_avg",
    "vit-swiglu_packed",
    "deit-distilled",
    "eva-cls",
    "eva-rope-swiglu",
    "eva-post_norm",
    "eva-dinov3",
    "beit-bias",
    "relpos-mlp",
    "hybrid-conv_stem",
    "vitamin-avg",
    "sam-neck",
    "naflex-map",
    "naflex-rope",
    "convit-cls",
    "cait-token",
    "xcit-cls",
    "tnt-new",
    "hiera-plain",
    "gemma4-avg",
    "deepseek-avg",
    "qwen3-avg",
}


def _slow_unless(is_typical: bool) -> Any:
    return () if is_typical else pytest.mark.slow


def _is_typical(name: str, scope_name: ScopeName) -> bool:
    """In its default scope, and in the other where that is of other blocks."""
    specimen = SPECIMENS[name]
    is_other = specimen.scopes[scope_name].blocks != specimen.scopes[specimen.default_scope].blocks
    return name in TYPICAL and (scope_name == specimen.default_scope or is_other)


# The same for a test's parameters, where what is not typical is slow.
SPECIMEN_PARAMS = [pytest.param(name, marks=_slow_unless(name in TYPICAL), id=name) for name in SPECIMENS]
CASE_PARAMS = [pytest.param(*case, marks=_slow_unless(_is_typical(*case)), id="-".join(case)) for case in CASES]
