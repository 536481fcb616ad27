"""Models of other libraries and of one's own, as they are, against the literal oracle on these models themselves."""

from __future__ import annotations

import copy
import importlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import LightningModule
from scipy.special import roots_legendre
from timm.models.beit import Beit
from timm.models.eva import Eva
from timm.models.vision_transformer import ResPostBlock, VisionTransformer
from timm.utils.model_ema import ModelEmaV3
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

import neuron_path
from neuron_path.errors import NeuronPathError
from neuron_path.models.adapter import adapt
from neuron_path.models.session import Session
from tests import oracle, tiny, zoo
from tests.models.state import assert_untouched, snapshot

N_STEPS = 3
SIZES = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "image_size": 8,
    "patch_size": 4,
    "num_labels": zoo.N_CLASSES,
}
DECODER = {"decoder_hidden_size": 16, "decoder_num_hidden_layers": 1, "decoder_num_attention_heads": 2}
TEXT = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
VIT: dict[str, Any] = {
    "img_size": 8,
    "patch_size": 4,
    "embed_dim": 16,
    "depth": 2,
    "num_heads": 2,
    "mlp_ratio": 1.5,
    "num_classes": 0,
}


def hugging_face(name: str, **options: Any) -> nn.Module:
    library = importlib.import_module("transformers")
    family = name.partition("For")[0].partition("Model")[0]
    return getattr(library, name)(getattr(library, f"{family}Config")(**options))


def torchvision() -> nn.Module:
    library = importlib.import_module("torchvision.models")
    return library.VisionTransformer(8, 4, 2, 2, 16, 24, num_classes=zoo.N_CLASSES)


def open_clip(**options: Any) -> nn.Module:
    library = importlib.import_module("open_clip.transformer")
    return library.VisionTransformer(8, 4, 16, 2, 2, 1.5, output_dim=8, **options)


class Net(nn.Module):
    """A backbone and a classifier, as many write it."""

    def __init__(self, backbone: nn.Module, read: Callable[[nn.Module, Tensor], Tensor], width: int = 16) -> None:
        super().__init__()
        self.backbone, self.read = backbone, read
        self.classifier = nn.Sequential(nn.Linear(width, 12), nn.GELU(), nn.Linear(12, zoo.N_CLASSES))

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.read(self.backbone, 2 * images))


class Lit(LightningModule):
    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net


class Subclass(VisionTransformer):
    """Reads the class token and the mean of the patches, as timm's does not."""

    def __init__(self) -> None:
        super().__init__(**VIT)
        self.last = nn.Linear(32, zoo.N_CLASSES)

    def forward(self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False) -> Tensor:
        h = self.forward_features(x)
        return self.last(torch.cat((h[:, 0], h[:, 1:].mean(1)), 1))


class Output(nn.Module):
    """The end of an FFN that has its residual in it, as in transformers 4."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Linear(24, 16)

    def forward(self, a: Tensor, x: Tensor) -> Tensor:
        return self.dense(a) + x


class Apart(nn.Module):
    """A block whose FFN is two modules, and that returns a tuple, as in transformers 4."""

    def __init__(self) -> None:
        super().__init__()
        self.layernorm_before, self.layernorm_after = nn.LayerNorm(16), nn.LayerNorm(16)
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
        self.intermediate, self.output = nn.Sequential(nn.Linear(16, 24), nn.GELU()), Output()

    def forward(self, x: Tensor, head_mask: Tensor | None = None) -> tuple[Tensor]:
        y = self.layernorm_before(x)
        u = x + self.attention(y, y, y, need_weights=False)[0]
        return (self.output(self.intermediate(self.layernorm_after(u)), u),)


class Old(nn.Module):
    """A model of such blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.position = nn.Conv2d(3, 16, 4, 4), nn.Parameter(torch.zeros(1, 4, 16))
        self.layers, self.classifier = nn.ModuleList([Apart(), Apart()]), nn.Linear(16, zoo.N_CLASSES)
        self.image_size = (8, 8)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        h = self.patches(images).flatten(2).transpose(1, 2) + self.position
        for layer in self.layers:
            h = layer(h, head_mask=None)[0]
        return {"features": h, "logits": self.classifier(h.mean(1))}


def called(backbone: nn.Module, images: Tensor) -> Tensor:
    return backbone(images)


def features(backbone: Any, images: Tensor) -> Tensor:
    return backbone.forward_features(images)[:, 0]


def first_token(backbone: nn.Module, images: Tensor) -> Tensor:
    return backbone(images).last_hidden_state[:, 0]


def pooled(backbone: nn.Module, images: Tensor) -> Tensor:
    return backbone(images).pooler_output


def embedded(backbone: nn.Module, images: Tensor) -> Tensor:
    return nn.functional.normalize(backbone(images).image_embeds)


CLS, PATCH = slice(0, 1), slice(1, None)


@dataclass(frozen=True)
class Specimen:
    """A model of a library: how it is made, where its neurons are, and which tokens count by its own head."""

    make: Callable[[], nn.Module]
    site: str
    tokens: slice
    channels: int = 3


def of_hugging_face(name: str, tokens: slice, site: str = "mlp.fc2", **options: Any) -> Specimen:
    return Specimen(lambda: hugging_face(name, **SIZES, **options), site, tokens)


def two_towers(name: str, tokens: slice) -> Specimen:
    options = {"vision_config": SIZES, "text_config": TEXT, "num_labels": zoo.N_CLASSES}
    return Specimen(lambda: hugging_face(name, **options), "layers.*mlp.fc2", tokens)


def headless(name: str, read: Callable[[Any, Tensor], Tensor], tokens: slice, site: str = "mlp.fc2", **options: Any):
    return Specimen(lambda: Net(hugging_face(name, **(SIZES | options)), read), site, tokens)


SPECIMENS = {
    "torchvision": Specimen(torchvision, "mlp.3", CLS),
    "vit": of_hugging_face("ViTForImageClassification", CLS),
    "vit_eager": of_hugging_face("ViTForImageClassification", CLS, attn_implementation="eager"),
    "vit_one_channel": Specimen(
        lambda: hugging_face("ViTForImageClassification", **SIZES, num_channels=1), "mlp.fc2", CLS, channels=1
    ),
    "vit_many_channels": Specimen(
        lambda: hugging_face("ViTForImageClassification", **SIZES, num_channels=13), "mlp.fc2", CLS, channels=13
    ),
    "deit": of_hugging_face("DeiTForImageClassification", CLS),
    "deit_teacher": of_hugging_face("DeiTForImageClassificationWithTeacher", slice(0, 2)),
    "beit": of_hugging_face("BeitForImageClassification", PATCH, use_relative_position_bias=True),
    "beit_shared": of_hugging_face("BeitForImageClassification", PATCH, use_shared_relative_position_bias=True),
    "beit_token": of_hugging_face(
        "BeitForImageClassification", CLS, use_absolute_position_embeddings=True, use_mean_pooling=False
    ),
    "dinov2": of_hugging_face("Dinov2ForImageClassification", PATCH, mlp_ratio=2),
    "dinov2_gated": of_hugging_face(
        "Dinov2ForImageClassification", PATCH, "mlp.down_proj", mlp_ratio=2, use_swiglu_ffn=True
    ),
    "dinov2_registers": of_hugging_face(
        "Dinov2WithRegistersForImageClassification", slice(3, None), mlp_ratio=2, num_register_tokens=2
    ),
    "clip": two_towers("CLIPForImageClassification", PATCH),
    "siglip": two_towers("SiglipForImageClassification", slice(0, None)),
    "vit_features": headless("ViTModel", first_token, CLS),
    "dinov2_features": headless("Dinov2Model", pooled, CLS),
    "dinov3_features": headless("DINOv3ViTModel", pooled, CLS, "mlp.down_proj", num_register_tokens=2),
    "dinov3_gated": headless("DINOv3ViTModel", first_token, CLS, "mlp.down_proj", use_gated_mlp=True),
    "clip_features": headless("CLIPVisionModel", pooled, CLS),
    "clip_embedding": headless("CLIPVisionModelWithProjection", embedded, CLS, projection_dim=16),
    "siglip_features": headless("SiglipVisionModel", pooled, slice(0, None), "layers.*mlp.fc2"),
    "open_clip": Specimen(lambda: Net(open_clip(), called, 8), "mlp.c_proj", CLS),
    "open_clip_average": Specimen(lambda: Net(open_clip(pool_type="avg"), called, 8), "mlp.c_proj", PATCH),
    "open_clip_layer_scale": Specimen(lambda: Net(open_clip(ls_init_value=0.5), called, 8), "mlp.c_proj", CLS),
    "open_clip_custom": Specimen(
        lambda: Net(open_clip(block_type="custom", scale_attn=True, scale_fc=True), called, 8), "mlp.c_proj", CLS
    ),
    "net": Specimen(lambda: Net(VisionTransformer(**VIT, reg_tokens=2), called), "mlp.fc2", CLS),
    "net_features": Specimen(lambda: Net(VisionTransformer(**VIT), features), "mlp.fc2", CLS),
    "net_average": Specimen(lambda: Net(VisionTransformer(**VIT, global_pool="avg"), called), "mlp.fc2", PATCH),
    "net_beit": Specimen(
        lambda: Net(Beit(**VIT, use_shared_rel_pos_bias=True, init_values=0.5), called), "mlp.fc2", PATCH
    ),
    "net_eva": Specimen(lambda: Net(Eva(**VIT, use_rot_pos_emb=True, swiglu_mlp=True), called), "mlp.fc2", PATCH),
    "sequential": Specimen(
        lambda: nn.Sequential(VisionTransformer(**VIT), nn.Linear(16, zoo.N_CLASSES)), "mlp.fc2", CLS
    ),
    "subclass": Specimen(Subclass, "mlp.fc2", PATCH),
    "old_names": Specimen(Old, "output.dense", slice(0, None)),
}
LIBRARY = {
    "torchvision": "torchvision",
    "open": "open_clip",
    "net": "timm",
    "sequential": "timm",
    "subclass": "timm",
    "old": "timm",
}


@pytest.fixture(autouse=True)
def quiet() -> None:
    """Hugging Face tells on import what it lacks."""
    logging.getLogger("transformers").setLevel(logging.ERROR)


def make(name: str, dtype: torch.dtype = torch.float64) -> nn.Module:
    pytest.importorskip(LIBRARY.get(name.partition("_")[0], "transformers"))
    with torch.random.fork_rng(devices=[]):
        model = SPECIMENS[name].make().to(torch.float64)
    zoo.randomise(model, seed=0)
    return model.to(dtype).train()


def images_of(name: str, n: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(n, SPECIMENS[name].channels, 8, 8, generator=generator, dtype=torch.float64)


class Logits(nn.Module):
    """Any model, as one that returns logits."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        output = self.model(images)
        return output if isinstance(output, Tensor) else output["logits"]


def setting_of(model: nn.Module, site: str, tokens: slice) -> oracle.Setting:
    """The oracle's setting for a copy of the model in eval mode."""
    nodes, weights = roots_legendre(N_STEPS)
    alpha, omega = torch.from_numpy((nodes + 1) / 2), torch.from_numpy(weights / 2)
    whole, (tower, _, ending) = Logits(copy.deepcopy(model).eval()), site.rpartition("*")
    names = [name for name, _ in whole.named_modules() if name.endswith(ending) and tower in name]
    return oracle.Setting(whole, tokens, alpha, omega, [[oracle.Site(name)] for name in names])


@pytest.mark.parametrize("name", SPECIMENS)
def test_logits_and_paths_are_those_of_the_model_itself(name: str) -> None:
    model, images, specimen = make(name), images_of(name), SPECIMENS[name]
    setting, before = setting_of(model, specimen.site, specimen.tokens), snapshot(model)

    session = Session(model)
    with session.active():
        h = session.adapter.embed(images)
        for index in range(len(session.adapter.blocks)):
            h = session.adapter.run(index, h)
        logits = session.adapter.head(h)
    found = neuron_path.find_paths(model, images, n_steps=N_STEPS, keep_candidates=True)
    edited = neuron_path.intervene(model, images, found.paths)

    expected = setting.model(images)
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5)
    assert expected.std(0).min() > 1e-3  # so that this says something
    for row, (image, target) in enumerate(zip(images, expected.argmax(1).tolist(), strict=True)):
        path, objectives = oracle.greedy_path(setting, image, target)
        assert found.paths[row].tolist() == [neuron for (neuron,) in path]
        assert found.candidate_scores is not None
        torch.testing.assert_close(found.candidate_scores[row], objectives, rtol=1e-5, atol=1e-7)
        torch.testing.assert_close(edited[row], oracle.intervened(setting, image, path, 0.0), rtol=1e-5, atol=1e-6)
    assert_untouched(model, before)


def wrapped_in(kind: str, model: nn.Module) -> nn.Module:
    wrappers: dict[str, Callable[[nn.Module], Any]] = {
        "DataParallel": nn.DataParallel,
        "DistributedDataParallel": nn.parallel.DistributedDataParallel,
        "torch.compile": lambda net: torch.compile(net, backend="eager"),
        "AveragedModel": AveragedModel,
        "ModelEmaV3": ModelEmaV3,
        "LightningModule": Lit,
        "all of them": lambda net: Lit(nn.DataParallel(torch.compile(net, backend="eager"))),  # pyright: ignore
        "compiled inside": lambda net: nn.Sequential(torch.compile(net, backend="eager"), nn.Identity()),  # pyright: ignore
        "parallel inside": lambda net: nn.Sequential(nn.DataParallel(net)),
    }
    return wrappers[kind](model)


@pytest.fixture
def one_process(tmp_path: Path) -> Iterator[None]:
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("one_process")
@pytest.mark.parametrize(
    ("kind", "inner"),
    [
        ("DataParallel", "timm"),
        ("DistributedDataParallel", "net"),
        ("torch.compile", "timm"),
        ("AveragedModel", "timm"),
        ("ModelEmaV3", "net"),
        ("LightningModule", "timm"),
        ("all of them", "net"),
        ("compiled inside", "net"),
        ("parallel inside", "timm"),
    ],
)
def test_wrappers_are_looked_through(kind: str, inner: str) -> None:
    model = tiny.make() if inner == "timm" else make("net")
    images, paths = tiny.make_images(1), torch.tensor([[3, 5, 0][: 3 if inner == "timm" else 2]])
    wrapper = wrapped_in(kind, copy.deepcopy(model))
    before = snapshot(wrapper)
    expected = neuron_path.intervene(model, images, paths)
    torch.testing.assert_close(neuron_path.intervene(wrapper, images, paths), expected, rtol=1e-12, atol=1e-12)
    assert_untouched(wrapper, before)


@pytest.mark.parametrize("kind", ["compiled", "replaced forward", "own forward in Lightning"])
def test_a_module_may_run_in_its_own_way(kind: str) -> None:
    model, images = make("net"), images_of("net", 1)
    expected = neuron_path.intervene(model, images, torch.tensor([[3, 5]]))
    if kind == "compiled":
        model.compile(backend="eager")
    elif kind == "replaced forward":
        model.forward = model.forward
    else:

        class Own(Lit):
            def forward(self, images: Tensor) -> Tensor:
                return -self.net(images)

        model, expected = Own(model), -expected
    torch.testing.assert_close(neuron_path.intervene(model, images, torch.tensor([[3, 5]])), expected)


@torch.no_grad()
def test_weights_are_shared_and_of_the_moment() -> None:
    model, images = make("vit"), images_of("vit", 1)
    adapter = adapt(model)
    own = {weight.data_ptr() for weight in model.parameters()}
    assert {weight.data_ptr() for weight in adapter._grafted.parameters()} == own  # pyright: ignore
    path = torch.tensor([[3, 5]])
    before = neuron_path.intervene(model, images, path)
    for weight in model.parameters():
        weight.add_(0.1)
    assert (neuron_path.intervene(model, images, path) - before).abs().max() > 1e-3


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ["torchvision", "vit", "net_eva"])
def test_types_of_numbers(name: str, dtype: torch.dtype) -> None:
    model, images = make(name, dtype), images_of(name)
    expected = Logits(copy.deepcopy(model).eval())(images.to(dtype)).softmax(1)
    found = neuron_path.find_paths(model, images, 1, n_steps=N_STEPS)
    tolerance = 1e-5 if dtype == torch.float32 else 2e-2
    torch.testing.assert_close(
        found.target_probabilities.double(), expected[:, 1].double(), rtol=tolerance, atol=tolerance
    )


def test_the_other_scope() -> None:
    model, images = make("dinov2_registers"), images_of("dinov2_registers", 1)
    found = neuron_path.find_paths(model, images, [1], n_steps=N_STEPS, token_scope="cls", scorer="activation")
    seen = oracle.clean_activations(setting_of(model, "mlp.fc2", CLS), images[0])
    assert found.paths[0].tolist() == [int(a[0].argmax()) for a in seen]


class Twice(nn.Module):
    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> Tensor:
        return self.net(images) + self.net(images.flip(-1))


class Beside(Twice):
    def forward(self, images: Tensor) -> Tensor:
        return self.net(images) + images.flatten(1)[:, : zoo.N_CLASSES]


class Deeper(Twice):
    """Reads what leaves the first block too."""

    def forward(self, images: Tensor) -> Tensor:
        vit: Any = self.net
        h = vit.blocks[0](vit._pos_embed(vit.patch_embed(images)))
        return (h + vit.blocks[1](h))[:, 0, : zoo.N_CLASSES]


class Turned(Twice):
    """Hands its blocks tokens first."""

    def forward(self, images: Tensor) -> Tensor:
        vit: Any = self.net
        h = vit._pos_embed(vit.patch_embed(images)).transpose(0, 1)
        return vit.blocks(h)[0, :, : zoo.N_CLASSES]


class Hidden(Twice):
    def forward(self, images: Tensor) -> Tensor:
        return self.net(images).nan_to_num()


class Detached(Twice):
    """A frozen backbone, as it should not be frozen."""

    def forward(self, images: Tensor) -> Tensor:
        with torch.no_grad():
            return self.net(images)


class Low(nn.Linear):
    """A linear layer with something beside it, as of LoRA."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input) + 0.5 * input[..., : self.out_features]


def with_low_rank() -> nn.Module:
    model: Any = make("vit")
    mlp = model.vit.layers[1].mlp
    mlp.fc2 = Low(24, 16).to(torch.float64)
    return model


def with_hook() -> nn.Module:
    model: Any = make("vit")
    model.vit.layers[1].register_forward_hook(lambda module, args, out: 2 * out)
    return model


def with_silent_forward() -> nn.Module:
    model: Any = make("vit")
    model.vit.forward = copy.deepcopy(model.vit).forward
    return model


CANNOT: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "features": (lambda: hugging_face("ViTModel", **SIZES), "BaseModelOutputWithPooling of last_hidden_state, pooler"),
    "one class": (
        lambda: nn.Sequential(VisionTransformer(**VIT), nn.Linear(16, 1)),
        "The model has a single output, of which the target 'probability' would say nothing",
    ),
    "text": (
        lambda: hugging_face("CLIPModel", vision_config=SIZES, text_config=TEXT),
        "forward pass fails on images of shape",
    ),
    "stages": (
        lambda: hugging_face("SwinForImageClassification", image_size=8, patch_size=2, embed_dim=8, depths=[1, 1],
                             num_heads=[1, 2], window_size=2),
        "2 runs of blocks were seen",
    ),
    "decoder": (lambda: hugging_face("ViTMAEForPreTraining", **SIZES, **DECODER), "runs of blocks were seen"),
    "random": (lambda: Net(hugging_face("ViTMAEModel", **SIZES), first_token), "differs from pass to pass"),
    "twice": (lambda: Twice(make("net")), "4 runs of blocks were seen"),
    "beside": (lambda: Beside(make("net")), "do not follow from what leaves its last block alone"),
    "deeper": (lambda: Deeper(VisionTransformer(**VIT)), "do not follow from what leaves its last block alone"),
    "turned": (lambda: Turned(VisionTransformer(**VIT)), "do not all take and return tokens of one shape"),
    "hidden": (lambda: Hidden(make("net")), "cannot be told which tokens its logits read"),
    "detached": (lambda: Detached(make("net")), "take torch.no_grad or detach out"),
    "post-norm": (
        lambda: Net(VisionTransformer(**VIT, block_fn=ResPostBlock), called),
        r"block 0 \(ResPostBlock\) is not attention and then an FFN",
    ),
    "low rank": (with_low_rank, "block 1 adds something else than its weights tell"),
    "hook": (with_hook, "or a hook changes it"),
    "another's forward": (with_silent_forward, "0 runs of blocks were seen"),
}  # fmt: skip


@pytest.mark.parametrize("name", CANNOT)
def test_what_cannot_be_reproduced_is_refused_in_one_line(name: str) -> None:
    pytest.importorskip("transformers")
    make_one, told = CANNOT[name]
    model = make_one().to(torch.float64)
    before = snapshot(model)
    with pytest.raises(NeuronPathError, match=told) as error:
        neuron_path.find_paths(model, tiny.make_images(1))
    assert "\n" not in str(error.value)
    assert_untouched(model, before)


@pytest.mark.parametrize(
    ("shape", "told"), [((1, 3, 16, 16), r"\(3, 16, 16\) \(Input image size"), ((1, 1, 8, 8), r"Expected 3 but got 1")]
)
def test_images_of_another_shape_are_refused_by_the_models_own_word(shape: tuple[int, ...], told: str) -> None:
    with pytest.raises(NeuronPathError, match=f"The model does not take images of shape .*{told}"):
        neuron_path.find_paths(make("vit"), torch.zeros(shape))


def test_mae_is_read_as_the_vit_that_it_is(tmp_path: Path) -> None:
    library = pytest.importorskip("transformers")
    mae: Any = hugging_face("ViTMAEForPreTraining", **SIZES, **DECODER, mask_ratio=0.0)
    zoo.randomise(mae, seed=0)
    mae.save_pretrained(tmp_path)
    model = Net(library.ViTModel.from_pretrained(tmp_path, add_pooling_layer=False), first_token)
    images = tiny.make_images(1, dtype=torch.float32)
    noise = torch.arange(4.0)[None]  # patches in their order
    expected = model.classifier(mae.vit.eval()(2 * images, noise=noise).last_hidden_state[:, 0])
    found = neuron_path.find_paths(model, images, scorer="activation")
    torch.testing.assert_close(found.target_probabilities, expected.softmax(1).amax(1), rtol=1e-5, atol=1e-5)


def test_an_embedding_of_open_clip_is_warned_of() -> None:
    pytest.importorskip("open_clip")
    with pytest.warns(UserWarning, match="its 8 numbers are taken as logits"):
        found = neuron_path.find_paths(open_clip(), tiny.make_images(1, dtype=torch.float32), scorer="activation")
    assert found.paths.shape == (1, 2)
