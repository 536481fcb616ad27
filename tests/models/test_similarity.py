"""Heads that tell how like an image is to references: pictures, class means, prompts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pandas as pd
import pytest
import timm
import tokenizers
import torch
import transformers
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, normalize

import neuron_path
from neuron_path.errors import NeuronPathError
from neuron_path.models.heads import LinearHead, attach_head, features, load_head, similarity_head
from neuron_path.models.preprocessing import image_transform
from neuron_path.models.text import embed_text
from neuron_path.pipeline.head import HEAD_FILE
from neuron_path.pruning.saved import load_pruned, save_pruned
from neuron_path.store.evidence import load_evidence
from tests import oracle
from tests.command import call, run_in
from tests.pipeline.test_head import FEATURES, colours

pytestmark = pytest.mark.filterwarnings("ignore:The weights of .* are random")
_MADE = ["img_size=32", "patch_size=8", "embed_dim=32", "depth=2", "num_heads=2", "num_classes=16"]
TOWER = ["model=timm", "model.name=vit_base_patch16_clip_224", *(f"+model.kwargs.{one}" for one in _MADE)]
EMBEDDING = {"num_classes": 16}  # a tower whose last layer is a projection


def tower(**options: Any) -> Any:
    torch.manual_seed(0)
    return timm.create_model("test_vit", img_size=32, **{"num_classes": 0, **options}).eval().requires_grad_(False)


def pixels(n: int = 3) -> Tensor:
    return torch.randn(n, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("options", [{}, EMBEDDING, {"global_pool": "avg"}])
@pytest.mark.parametrize("of_output", [False, True])
def test_a_logit_is_the_scaled_cosine(options: dict[str, Any], of_output: bool) -> None:
    model, images = tower(**options), pixels()
    own = model(images) if of_output else features(model, images)
    references = torch.randn(4, own.shape[1])
    head = similarity_head(references, scale=7, bias=-2, of_output=of_output)
    found = attach_head(model, head)(images)
    expected = 7 * cosine_similarity(own.unsqueeze(1), references, dim=2) - 2
    torch.testing.assert_close(found, expected)
    assert model.num_classes == 4


@pytest.mark.parametrize("n", [1, 3])
def test_paths_drive_the_similarity_like_the_oracle_s(n: int) -> None:
    model = timm.models.vision_transformer.VisionTransformer(
        img_size=8, patch_size=4, embed_dim=12, depth=3, num_heads=2, num_classes=0, in_chans=1
    )
    model = model.eval().double().requires_grad_(False)
    images = torch.randn(2, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    attach_head(model, similarity_head(features(model, torch.randn(n, 1, 8, 8, dtype=torch.float64))))
    found = neuron_path.find_paths(model, images, [n - 1] * 2, target="logit", n_steps=3)
    nodes, weights = (torch.from_numpy(x) for x in neuron_path.Quadrature("gauss_legendre", 3).nodes())
    setting = oracle.Setting(model, oracle.cls_tokens(model), nodes, weights, target_function="logit")
    for row, image in enumerate(images):
        path = [[int(neuron)] for neuron in found.paths[row]]
        theirs, *_ = oracle.greedy_path(setting, image, n - 1, 1)
        assert path == [list(map(int, block)) for block in theirs]
        torch.testing.assert_close(
            found.scores[row], oracle.joint_score(setting, image, n - 1, path), rtol=1e-9, atol=0
        )


def test_a_head_of_the_output_must_fit_it() -> None:
    with pytest.raises(NeuronPathError, match="reads 64 features, but the model gives 5"):
        attach_head(tower(num_classes=5), similarity_head(torch.randn(2, 64), of_output=True))


def test_a_file_keeps_the_kind_of_head(tmp_path: Path) -> None:
    head = similarity_head(torch.randn(2, 64), ("a", "b"), scale=3, of_output=True)
    found = load_head(neuron_path.save_head(head, tmp_path / "head.safetensors"))
    assert (found.cosine, found.of_output, found.classes) == (True, True, ("a", "b"))
    assert torch.equal(found.weight, head.weight)
    plain = load_head(neuron_path.save_head(LinearHead(torch.ones(2, 4), torch.ones(2)), tmp_path / "p.safetensors"))
    assert (plain.cosine, plain.of_output) == (False, False)
    with pytest.raises(NeuronPathError, match=r"name it head\.safetensors"):
        neuron_path.save_head(head, tmp_path / "head.pt")


@pytest.mark.parametrize("options", [{}, EMBEDDING])
def test_another_head_takes_the_place_of_the_first(options: dict[str, Any]) -> None:
    model, images = tower(**options), pixels()
    width = model(images).shape[1]
    first, second = (similarity_head(torch.randn(n, width), of_output=True) for n in (3, 2))
    expected = attach_head(tower(**options), second)(images)
    torch.testing.assert_close(attach_head(attach_head(model, first), second)(images), expected)


@pytest.mark.parametrize(("options", "of_output"), [({}, False), ({}, True), (EMBEDDING, True)])
def test_a_pruned_model_keeps_its_head(options: dict[str, Any], of_output: bool, tmp_path: Path) -> None:
    model, images = tower(**options), pixels()
    width = options.get("num_classes", 64)
    attach_head(model, similarity_head(torch.randn(3, width), scale=9, of_output=of_output))
    save_pruned(model, tmp_path, name="test_vit", kwargs={"img_size": 32})
    torch.testing.assert_close(load_pruned(tmp_path)(images), model(images))


def test_class_folders_are_references_by_their_means(tmp_path: Path) -> None:
    data, root = colours(tmp_path / "data", each=1), colours(tmp_path / "train", each=2)
    chosen = ["data=image_folder", f"data.root={data}", "data.num_workers=0", "head=similarity", f"head.root={root}"]
    outcome = run_in(tmp_path / "run", "search", *FEATURES, *chosen, "target=logit")
    assert (outcome.code, outcome.err) == (0, "")
    assert "the likeness to 3 reference(s) of 6 image(s)" in outcome.out
    head = load_head(outcome.run_dir / HEAD_FILE)
    assert head.classes == ("blue", "green", "red")
    lengths = head.weight.norm(dim=1)
    torch.testing.assert_close(lengths, torch.ones(3))
    again = run_in(
        tmp_path / "again",
        "search",
        *FEATURES,
        *chosen[:3],
        "head=file",
        f"head.path={outcome.run_dir / HEAD_FILE}",
        "target=logit",
    )
    first, second = (neuron_path.load_paths(one.run_dir) for one in (outcome, again))
    assert [list(path) for path in first["path"]] == [list(path) for path in second["path"]]
    assert call("verify", str(outcome.run_dir))[0] == 0


def test_one_picture_is_a_reference(tmp_path: Path) -> None:
    data, root = colours(tmp_path / "data", each=1), tmp_path / "reference"
    root.mkdir()
    (data / "red" / "0.png").rename(root / "mine.png")
    (data / "red").rmdir()
    chosen = ["data=image_folder", f"data.root={data}", "data.num_workers=0", "head=similarity", f"head.root={root}"]
    outcome = run_in(tmp_path / "run", "run", *FEATURES, *chosen, "target=logit", "target_class=prediction")
    assert outcome.code == 0, outcome.err
    assert (
        "Removing the path changes the target similarity (cosine) by" in outcome.out
    )  # softmax of one output is always 1
    assert "target probability by" not in (outcome.run_dir / "report.html").read_text()
    assert json.loads((outcome.run_dir / "run.json").read_text())["head"]["classes"] == ["mine.png"]
    refused = run_in(tmp_path / "refused", "run", *FEATURES, *chosen, "target_class=prediction")
    assert "single output" in refused.err
    assert refused.is_refusal()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"vectors": torch.zeros(1, 4)}, "no direction"),
        ({"vectors": torch.full((1, 4), torch.nan)}, "NaN"),
        ({"vectors": torch.ones(4)}, r"expected \(references, features\)"),
        ({"vectors": torch.ones(2, 4), "classes": ["a"]}, "1 names for 2 vectors"),
        ({"vectors": torch.ones(2, 4), "scale": 0}, "scale is 0"),
    ],
)
def test_what_is_no_reference_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(NeuronPathError, match=message):
        similarity_head(**options)


TINY_CLIP = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}
PROMPTS = ("a photo of a {}.", "a drawing of a {}")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """A CLIP of open_clip with random weights, known as `tiny-clip`, and a file of them."""
    folder = tmp_path_factory.mktemp("clip")
    (folder / "tiny-clip.json").write_text(json.dumps(TINY_CLIP))
    open_clip.add_model_config(folder)
    torch.manual_seed(0)
    model: Any = open_clip.create_model("tiny-clip").eval()
    torch.save(model.state_dict(), folder / "tiny.pt")
    return model, folder / "tiny.pt"


def zero_shot(model: Any, images: Tensor, classes: list[str]) -> Tensor:
    """Logits as CLIP's authors compute them."""
    tokenize = open_clip.get_tokenizer("tiny-clip")
    rows = []
    with torch.no_grad():
        for name in classes:
            embedded = normalize(model.encode_text(tokenize([prompt.format(name) for prompt in PROMPTS])), dim=1)
            rows.append(normalize(embedded.mean(0), dim=0))
        return model.logit_scale.exp() * normalize(model.encode_image(images), dim=1) @ torch.stack(rows).T


def test_prompts_make_a_tower_a_classifier(clip: tuple[Any, Path]) -> None:
    model, file = clip
    head = embed_text("tiny-clip", ["cat", "dog", "owl"], PROMPTS, str(file))
    whole = attach_head(model.visual, head)
    images = pixels()
    torch.testing.assert_close(whole(images), zero_shot(model, images, ["cat", "dog", "owl"]), rtol=1e-4, atol=1e-5)
    found = neuron_path.find_paths(whole, images)
    assert found.paths.shape == (3, 2)
    assert torch.equal(found.predictions, zero_shot(model, images, ["cat", "dog", "owl"]).argmax(1))


def test_from_prompts_to_paths_on_the_command_line(clip: tuple[Any, Path], tmp_path: Path) -> None:
    model, file = clip
    data, out = colours(tmp_path / "data", each=2, names=("cat", "dog")), tmp_path / "classes.safetensors"
    templates = tmp_path / "templates.txt"
    templates.write_text("\n".join(PROMPTS))
    options = ["--model=tiny-clip", f"--pretrained={file}", f"--templates={templates}", f"--out={out}"]
    code, said, err = call("embed-text", *options, "cat", "dog")
    assert (code, err) == (0, "")
    assert f"head=file head.path={out}" in said
    outcome = run_in(
        tmp_path / "run", "search", *TOWER, f"model.checkpoint={file}", "head=file", f"head.path={out}",
        "data=image_folder", f"data.root={data}", "data.num_workers=0",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    paths = neuron_path.load_paths(outcome.run_dir)
    assert set(paths["label"]) == {0, 1}
    tensors = tower_pixels(data, paths["sample_id"].tolist())
    expected = zero_shot(model, tensors, ["cat", "dog"])
    assert paths["prediction"].tolist() == expected.argmax(1).tolist()
    own = expected.softmax(1)[torch.arange(len(paths)), torch.tensor(paths["target"].to_numpy())]
    np.testing.assert_allclose(paths["target_probability"], own, rtol=1e-3)


def test_words_are_those_nearest_to_the_images_of_a_neuron(clip: tuple[Any, Path], tmp_path: Path) -> None:
    model, file = clip
    data, vocabulary = (
        colours(tmp_path / "data", each=4, names=("cat", "dog")),
        ["cat", "dog", "owl-0", "a b", "[cat] owl"],
    )
    heads = {}
    for name, words in (("classes", ["cat", "dog"]), ("words", vocabulary)):
        heads[name] = tmp_path / f"{name}.safetensors"
        options = ["--model=tiny-clip", f"--pretrained={file}", f"--out={heads[name]}"]
        assert call("embed-text", *options, *words)[0] == 0
    outcome = run_in(tmp_path / "run", "search", *TOWER, f"model.checkpoint={file}", "head=file",
        f"head.path={heads['classes']}", "data=image_folder", f"data.root={data}", "data.num_workers=0",
        "evidence=true",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    code, said, err = call("words", str(outcome.run_dir), f"--words={heads['words']}", "--top=2")
    assert (code, err) == (0, "")
    assert f"Words: {outcome.run_dir / 'words.csv'}" in said
    found = pd.read_csv(outcome.run_dir / "words.csv")
    shown = "".join(said.split())  # a narrow table breaks its lines
    assert all(word.replace(" ", "") in shown for word in found["word"].head(2))

    evidence = load_evidence(outcome.run_dir).query("kind == 'image'")
    names = sorted(set(evidence["sample_id"]))
    with torch.no_grad():
        images = normalize(model.encode_image(tower_pixels(data, names)), dim=1)
        texts = open_clip.get_tokenizer("tiny-clip")([f"a photo of a {word}." for word in vocabulary])
        words = normalize(model.encode_text(texts), dim=1)
    cosines = pd.DataFrame((images @ words.T).numpy(), index=names, columns=vocabulary)
    for _, rows in evidence.groupby(["block", "neuron"]):
        block, neuron = rows.iloc[0][["block", "neuron"]]
        own = cosines.loc[rows["sample_id"]].mean()
        above = (own - cosines.mean()).sort_values(ascending=False)[:2]
        mine = found[(found["block"] == block) & (found["neuron"] == neuron)]
        np.testing.assert_allclose(mine["above"], above, atol=1e-4)
        np.testing.assert_allclose(mine["cosine"], own[mine["word"]], atol=1e-4)
        assert mine["images"].tolist() == [len(rows)] * 2
    assert len(found) == 2 * evidence.groupby(["block", "neuron"]).ngroups


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--words=HEAD"], "is no head of words' embeddings: make one of a list of words with neuron-path embed-text"),
        (["--words=WORDS"], "holds no evidence.parquet: search again with evidence=true."),
        (["--words=WORDS", "--top=9"], "9 words are asked for; expected 1 … 2, as there are."),
        ([], "needs one run directory and --words=FILE"),
    ],
)
def test_words_that_cannot_be_had(given: list[str], message: str, tmp_path: Path) -> None:
    neuron_path.save_head(LinearHead(torch.zeros(2, 4), torch.zeros(2)), tmp_path / "head.safetensors")
    neuron_path.save_head(similarity_head(torch.eye(2, 4), ["a", "b"]), tmp_path / "words.safetensors")
    places = {"HEAD": tmp_path / "head.safetensors", "WORDS": tmp_path / "words.safetensors"}
    for name, place in places.items():
        given = [one.replace(name, str(place)) for one in given]
    code, _, err = call("words", str(tmp_path), *given)
    assert (code, err.count("\n")) == (1, 1)
    assert message in err


def tower_pixels(folder: Path, names: list[str]) -> Tensor:
    """The pictures as the timm model of the command above takes them."""
    model = timm.create_model(
        "vit_base_patch16_clip_224", img_size=32, patch_size=8, embed_dim=32, depth=1, num_heads=2
    )
    transform, _ = image_transform(model)
    return torch.stack([transform(Image.open(folder / name).convert("RGB")) for name in names])


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_a_folder_of_transformers_embeds_text(kind: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision = sizes | {"image_size": 32, "patch_size": 16}
    text = sizes | {
        "vocab_size": 64,
        "max_position_embeddings": 12,
        "eos_token_id": 3,
        "bos_token_id": 2,
        "pad_token_id": 1,
    }
    if kind == "clip":
        config: Any = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)
        made: Any = transformers.CLIPModel(config).eval()
    else:
        config = transformers.SiglipConfig(text_config=text | {"projection_size": 16}, vision_config=vision)
        made = transformers.SiglipModel(config).eval()
    made.save_pretrained(tmp_path)
    words = {word: number for number, word in enumerate(["<unk>", "<pad>", "<bos>", "<eos>", "cat", "dog", "a"])}
    plain = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="<unk>"))
    plain.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    plain.post_processor = tokenizers.processors.TemplateProcessing(
        single="<bos> $A <eos>", special_tokens=[("<bos>", 2), ("<eos>", 3)]
    )
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=plain, pad_token="<pad>", eos_token="<eos>")
    tokenizer.save_pretrained(tmp_path)
    head = embed_text(str(tmp_path), ["cat", "dog"], ["a {}"])
    tokens = tokenizer(["a cat", "a dog"], padding="max_length", max_length=12, return_tensors="pt")
    image = pixels(1)
    with torch.no_grad():
        logits = made(**tokens, pixel_values=image).logits_per_image[0]
        embedded = made.get_image_features(pixel_values=image)
    embedded = embedded if isinstance(embedded, Tensor) else embedded.pooler_output
    ours = normalize(embedded, dim=1) @ head.weight.T + head.bias
    torch.testing.assert_close(ours[0], logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out=x.safetensors", "cat"], "needs --model="),
        (["--model=ViT-B-32", "cat"], "needs --out="),
        (["--model=ViT-B-32", "--out=x.pt", "cat"], "written as safetensors: give it as "),
        (["--model=ViT-B-32", "--out=x.safetensors"], "classes to embed are none"),
        (["--model=ViT-B-32", "--out=x.safetensors", "cat", "cat"], "'cat' twice"),
        (["--model=ViT-B-32", "--out=x.safetensors", "--template=photo", "cat"], "needs one {}"),
        (["--model=ViT-B-32", "--out=x.safetensors", "cat"], "give pretrained="),
        (["--model=ViT-B-23", "--out=x.safetensors", "--pretrained=openai", "cat"], "no model 'ViT-B-23'"),
        (["--model=ViT-B-32", "--out=x.safetensors", "--pretrained=gone.pt", "cat"], "cannot be had"),
        (["--model=ViT-B/32", "--pretrained=openai", "--out=x.safetensors", "cat"], "name the model as open_clip does"),
        (["--model=/nowhere/at/all", "--out=x.safetensors", "cat"], "cannot be read"),
        (["--model=ViT-B-32", "--out=x.safetensors", "--classes=gone.txt"], "Cannot read 'gone.txt'"),
        (["--model=ViT-B-32", "--out=x.safetensors", "--classes=gone.txt", "cat"], "either --classes or CLASS"),
    ],
)
def test_what_cannot_be_embedded_is_one_line(arguments: list[str], message: str, tmp_path: Path) -> None:
    code, out, err = call("embed-text", *(one.replace("--out=", f"--out={tmp_path}/") for one in arguments))
    assert (code, out) == (1, "")
    assert err.count("\n") == 1
    assert message in err
    assert list(tmp_path.iterdir()) == []


def test_a_module_that_is_no_layer_is_named() -> None:
    model = tower()
    model.head = nn.Sequential(nn.Linear(64, 8), nn.GELU())
    with pytest.raises(NeuronPathError, match="is a Sequential; expected a linear layer"):
        attach_head(model, similarity_head(torch.ones(1, 64)))
