"""Why a model has no neuron paths, in one sentence: for the error that refuses it."""

from __future__ import annotations

from torch import nn

_STAGES = "its tokens are merged between stages, so its blocks do not share one residual stream"
_MIXER = "it mixes tokens by an FFN in place of attention"
_BRANCHES = "its tokens run through branches of several resolutions, not through one sequence of blocks"
_CONVOLUTION = "it is a convolutional network, or mixes convolutions into its blocks"

# By timm's module, the reason; families with attention that are not listed here fall to the general one.
_REASONS = {
    **dict.fromkeys(
        (
            "swin_transformer", "swin_transformer_v2", "swin_transformer_v2_cr", "pvt_v2", "twins", "nest", "pit",
            "mvitv2", "davit", "gcvit", "focalnet", "volo", "tiny_vit", "metaformer", "hieradet_sam2", "levit",
        ),
        _STAGES,
    ),
    **dict.fromkeys(("mlp_mixer", "sequencer"), _MIXER),
    **dict.fromkeys(("crossvit", "coat", "hrnet"), _BRANCHES),
    **dict.fromkeys(
        (
            "maxxvit", "visformer", "mobilevit", "edgenext", "efficientformer", "efficientformer_v2", "fastvit",
            "efficientvit_mit", "efficientvit_msra", "swiftformer", "shvit", "nextvit", "repvit", "mobilenetv5",
        ),
        _CONVOLUTION,
    ),
}  # fmt: skip


def why_not(model: nn.Module) -> str:
    """One sentence: the model, and why it is not supported."""
    kind, module = type(model).__name__, type(model).__module__
    if not isinstance(model, nn.Module):
        return f"Expected a model, found a {kind}: load one with neuron_path.load_model(NAME)."
    if not module.startswith("timm.models."):
        bases = [cls.__name__ for cls in type(model).__mro__ if cls.__module__.startswith("timm.models.")]
        why = f"the class changes timm's {bases[0]}" if bases else "no list of transformer blocks was found in them"
        return (
            f"Models of type {module}.{kind} are not supported: {why}. Load your weights into the timm model of the "
            "same architecture with model.checkpoint=FILE."
        )
    family = module.rpartition(".")[2]
    reason = _REASONS.get(family)
    if kind.endswith("Encoder"):
        reason = "it is an encoder without a classifier; use the model of the same name without _enc"
    if family == "_features":
        reason = "with features_only=True a model has no classifier"
    if reason is None:
        has_attention = any("attention" in type(part).__name__.lower() for part in model.modules())
        reason = "its blocks are not of a kind that is known here" if has_attention else _CONVOLUTION
    return f"Models of timm's family '{family}' ({kind}) are not supported: {reason}."
