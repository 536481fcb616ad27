"""The page of the study, from its tables alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, cast

import pandas as pd
from PIL import Image

from neuron_path.report.cells import ABSENT, mean_cell, p_cell, to_records
from neuron_path.report.markdown import markdown_table
from neuron_path.report.style import save_figure
from neuron_path.store.atomic import write_text
from real_study.figure import circuits_figure, effects_figure, evidence_figure
from real_study.methods import METHODS, PAPER
from real_study.plan import PARTS

TABLES: Final = (
    "effects", "scorers", "scores", "claims", "searches", "agreement", "selectivity", "transfer", "curves", "areas",
    "tests", "truth", "evidence", "stability", "classes", "meaning", "reasons", "cost",
)  # fmt: skip
_EDITS: Final = {
    "remove": "remove",
    "enhance": "enhance",
    "mean_ablation": "mean ablation",
    "resample_ablation": "resample ablation",
}
_CHANGES: Final = {
    "flip": "flipped",
    "crop": "cropped by a tenth",
    "jpeg": "JPEG of quality 50",
    "noise": "noise of 5 %",
}
Tables = Mapping[str, pd.DataFrame]
Row = Mapping[str, Any]
Columns = dict[str, Callable[[Row], Any]]


def read_tables(folder: str | Path) -> tuple[dict[str, pd.DataFrame], dict[str, Any]]:
    """The tables of a study that are there, and what is known of it."""
    found = {
        name: pd.read_csv(Path(folder) / f"{name}.csv") for name in TABLES if (Path(folder) / f"{name}.csv").exists()
    }
    return found, json.loads((Path(folder) / "study.json").read_bytes())


def write_page(folder: str | Path, page: str | Path) -> str:
    """Write page and figures from the tables in a folder; returns the text."""
    tables, about = read_tables(folder)
    images = Path(page).parent / "images" / "real-model"
    if "effects" in tables:
        save_figure(effects_figure(tables["effects"]), images / "effects", ["svg"])
    if "curves" in tables:
        save_figure(circuits_figure(tables["curves"]), images / "circuits", ["svg"])
    if "evidence" in tables:
        with Image.open(Path(folder) / "evidence.jpg") as sheet:
            save_figure(evidence_figure(tables["evidence"], sheet), images / "evidence", ["png"], dpi=160)
    text = page_text(tables, about)
    write_text(page, text)
    return text


def page_text(tables: Tables, about: Mapping[str, Any]) -> str:
    """The page as Markdown.

    Args:
        tables: by name; those that are not there are left out, and the page says so.
        about: the study.
    """
    parts = [_head(about)]
    for title, writers in _SECTIONS.items():
        body = [part for name, write in writers.items() if name in tables for part in write(tables[name])]
        if body:
            parts += [f"## {title}", *body]
    return "\n\n".join([*parts, *_foot(tables, about)]) + "\n"


def _head(about: Mapping[str, Any]) -> str:
    return (
        "# The paper's claims on a pretrained model\n\n"
        f"`{about['model']}` ({about['n_blocks']} blocks of {about['n_neurons']} neurons, "
        f"{about['image_size'][-1]} pixels, the "
        f"{'class token' if about['scope'] == 'cls' else 'patch tokens'} in scope) with a linear probe of "
        f"{about['n_classes']} classes of groceries, right on {100 * about['accuracy']:.0f} % of the "
        f"{about['n_images']} photographs "
        f"studied so far of {about['n_planned']}. An image's target is its label. Where nothing else is said, "
        "numbers are means over the photographs that the model classifies rightly, with 95 % bootstrap intervals "
        "over these; p-values are of paired sign-flip tests, Holm-corrected over a table's column. k is the number "
        "of neurons in each block."
    )


def _claims(table: pd.DataFrame) -> list[str]:
    words = {"holds": "hold", "the opposite holds": "are contradicted", "not shown": "are not shown"}
    counts = table["verdict"].value_counts()
    told = ", ".join(f"{counts.get(verdict, 0)} {word}" for verdict, word in words.items())
    columns: Columns = {
        "Of the paper's path": lambda row: row["claim"],
        "k": _K["k"],
        "Verdict": lambda row: row["verdict"] if row["verdict"] == "not shown" else f"**{row['verdict']}**",
        "Difference": lambda row: (
            _cell(row, "difference") + {"%": " %", "points": " points", "of p": "", "r": ""}[row["unit"]]
        ),
    }
    return [
        f"Of {len(table)} statements {told}, at p < 0.05 after Holm's correction over all of them.",
        _table(table, columns | _P | _N),
    ]


def _reasons(table: pd.DataFrame) -> list[str]:
    text = (
        "With activations w and gradients g of the probability at the clean point, removing neurons loses Σ w·g of "
        "it to first order. The joint score is another number, (Σ w)·(Σ g): it also multiplies one block's "
        "activation with another block's gradient, and these products stand for nothing that an edit does. So it can "
        "be high for a path of some neurons that are large and others whose gradients are, and for neurons whose own "
        "w·g is negative, without which the probability *rises*. "
    )
    for paper in to_records(table.loc[table["method"] == PAPER]):
        text += (
            f"Of the paper's paths (k = 1, n = {paper['n']}) {100 * paper['harmful']:.0f} % of the neurons are "
            f"such, and {100 * paper['crossed']:.0f} % of the product at the clean point are cross terms."
        )
    columns: Columns = {
        "(Σ w)(Σ g), points": lambda row: _cell(row, "joint"),
        "Σ w·g, points": lambda row: _cell(row, "expected"),
        "Neurons with w·g < 0, %": lambda row: _percent(row, "harmful"),
        "Rank correlation of (Σ w)(Σ g) with the loss by removal": lambda row: _number(row["correlation_joint"]),
        "… of Σ w·g": lambda row: _number(row["correlation_expected"]),
    }
    return [text, _table(table, _METHOD | columns)]


def _effects(table: pd.DataFrame) -> list[str]:
    parts = [
        "Mean change of the target's probability in percent. After each: p against the paper's path. What a search "
        "maximises is no evidence by itself; mind the edits that it did not see.",
        "![Changes by method, edit and size](images/real-model/effects.svg)",
    ]
    for group, words in (("right", "rightly classified"), ("wrong", "wrongly classified")):
        own = table.loc[(table["measure"] == "probability") & (table["group"] == group)]
        for k in sorted(set(own["k"])):
            sized = own.loc[own["k"] == k]
            parts += [f"### k = {k}, {words} (n = {sized['n'].iloc[0]})", _edits(sized)]
    own = table.loc[(table["measure"] == "accuracy") & (table["group"] == "all") & (table["edit"] == "remove")]
    if len(own):
        columns: Columns = {"Change of top-1, points": _cell, "p": _p}
        parts += [
            "### Accuracy when the path is removed, all photographs",
            _table(own, _METHOD | _K | columns | _N),
        ]
    return parts


def _edits(table: pd.DataFrame) -> str:
    columns = [_EDITS.get(edit) for edit in table["edit"]]
    cells = table.assign(column=columns, cell=[_tested(row) for row in to_records(table)])
    return _crossed(cells.dropna(subset="column"))


def _scorers(table: pd.DataFrame) -> list[str]:
    return [
        f"### Further scorers, k = 1, rightly classified (n = {table['n'].iloc[0]})",
        "On the first photographs only: they cost the most. All other methods are measured on the same ones here.",
        _edits(table),
    ]


def _searches(table: pd.DataFrame) -> list[str]:
    rows = []
    for key, found in table.groupby(["search", "edit"], sort=False):
        search, edit = cast("tuple[str, str]", key)
        for name in dict.fromkeys(found["method"]):
            own = {row["k"]: row for row in to_records(found.loc[found["method"] == name])}
            row = {"Search": _label(search), "Edit": _EDITS[edit], "Against paths by": _label(name)}
            for k, n in sorted(set(zip(found["k"], found["n"], strict=True))):
                cell = f"{_cell(own[k], 'difference')}; {p_cell(own[k]['p'])}" if k in own else ABSENT
                row[f"k = {k} (n = {n})"] = cell
            rows.append(row)
    return [
        "Each effect search against every other method, by the edit that it maximises, image by image: difference of "
        "the changes of the probability in points of percent (negative: the effect search's paths matter more), and p, "
        "Holm-corrected over this table.",
        markdown_table(pd.DataFrame(rows)),
    ]


def _flipped(table: pd.DataFrame) -> list[str]:
    own = table.loc[(table["measure"] == "probability") & (table["group"] == "right")]
    rows = []
    for _, found in own.groupby(["k", "method"], sort=False):
        by_edit = {row["edit"]: row for row in to_records(found)}
        if {"remove", "flipped"} <= set(by_edit):
            same, other = by_edit["remove"], by_edit["flipped"]
            rows.append(
                {
                    "Paths by": _label(same["method"]),
                    "k": str(same["k"]),
                    "Same picture": _cell(same),
                    "Flipped picture": _tested(other),
                    "Kept, %": f"{100 * other['mean'] / same['mean']:.0f}" if same["high"] < 0 else ABSENT,
                    "n": str(other["n"]),
                }
            )
    return [
        "Found on the picture, removed from the picture and from its mirror image; change of the probability in "
        "percent.",
        markdown_table(pd.DataFrame(rows)),
    ]


def _transfer(table: pd.DataFrame) -> list[str]:
    columns: Columns = {
        "Its own path": lambda row: _cell(row, "own"),
        "Of another picture of the class": lambda row: _cell(row, "own_class"),
        "Of a picture of another class": lambda row: _cell(row, "other_class"),
    }
    return [
        "The path of another picture removed, in percent; p, uncorrected, compares the last two: what differs "
        "between them is the class.",
        _table(table, _METHOD | _K | columns | _P | _N),
    ]


def _agreement(table: pd.DataFrame) -> list[str]:
    words = _EDITS | {"flipped": "remove, flipped picture"}
    columns: Columns = {
        "Methods in order of": lambda row: f"{words[row['one']]} and {words[row['other']]}",
        "Kendall's τ": lambda row: _number(row["tau"]),
    }
    methods: Columns = {"methods": lambda row: str(row["methods"])}
    return [
        "How alike two edits order the methods by their mean change.",
        _table(table, _K | columns | _P | methods),
    ]


def _selectivity(table: pd.DataFrame) -> list[str]:
    n_classes = table["classes"].iloc[0]
    columns: Columns = {
        "Target's logit": lambda row: _cell(row, "target"),
        "Mean of the others": lambda row: _cell(row, "others"),
        "Target falls most, %": lambda row: _percent(row, "falls_most"),
    }
    return [
        "Change of the logits when the path is removed; by chance the target is the one of "
        f"{n_classes} that falls most on {100 / n_classes:.0f} % of the photographs.",
        _table(table, _METHOD | _K | columns | _N),
    ]


def _circuits(table: pd.DataFrame) -> list[str]:
    cells = table.assign(column=table["measure"], cell=[_cell(row, sign=False) for row in to_records(table)])
    return [
        "The first neurons of each block in a method's order are kept, all others take another picture's "
        "activations, and faithfulness f is the share of the model's lead of the target over the next class that is "
        "left: (m(circuit) − m(∅)) / (m(model) − m(∅)), m the mean over photographs, so a ratio of means. CPR, the "
        "area under f (larger is better), and CMD, the area between f and 1 (smaller is better), are MIB's "
        "([2504.13151](https://arxiv.org/abs/2504.13151)) on its grid of shares, here of each block's neurons. A "
        "path lies far below that grid's middle, so the same is given on log k, from one thousandth on, divided by "
        "the length of the "
        f"axis. The paper's method rates candidates given its path of k = 1. n = {table['n'].iloc[0]}.",
        "![Faithfulness against the share of neurons kept](images/real-model/circuits.svg)",
        _crossed(cells, "Neurons in the order of"),
    ]


def _tests(table: pd.DataFrame) -> list[str]:
    names = ("equivalence", "sufficiency", "partial necessity", "minimality")
    rows = []
    for _, found in table.groupby(["k", "method"], sort=False):
        own = {row["test"]: row for row in to_records(found)}
        head = next(iter(own.values()))
        row = {"Paths by": _label(head["method"]), "k": str(head["k"])}
        for test in names:
            row[_capital(test)] = (
                f"{100 * own[test]['share']:.0f} %, {p_cell(own[test]['p'])}" if test in own else ABSENT
            )
        rows.append(row | {"n": str(max(one["n"] for one in own.values()))})
    return [
        "After [2410.13032](https://arxiv.org/abs/2410.13032), made for one circuit of a task; here each photograph "
        "has a path of its own and is one trial of a binomial test. *Equivalence*: share of photographs on which the "
        "path alone (the others at their mean) does at least as well as the model; a small p says they are not "
        "equivalent. *Sufficiency*: share on which the path alone does better than nine tenths of 20 random sets "
        "with as many neurons in each block; 10 % are expected of a random set. *Partial necessity*: the same, "
        "removed in place of kept. *Minimality*: share of blocks whose neuron matters more to the edit than a random "
        "one of the block in addition. p is Holm-corrected over a test.",
        markdown_table(pd.DataFrame(rows)),
    ]


def _truth(table: pd.DataFrame) -> list[str]:
    cells = table.assign(column=table["what"], cell=[_cell(row, sign=False) for row in to_records(table)])
    return [
        "Spearman's correlation, within each photograph, of a method's ratings with the exact loss of probability "
        "when single neurons are removed, in float64: of each block two neurons drawn from all, and two of the "
        "twentieth that gradient × "
        f"activation puts first. Means over {table['n'].iloc[0]} photographs.",
        _crossed(cells, "Ratings by"),
    ]


def _stability(table: pd.DataFrame) -> list[str]:
    columns: Columns = {
        "What changes": lambda row: _CHANGES.get(row["what"], row["what"].replace("_", " ")),
        "Overlap, %": _percent,
    }
    return [
        "Overlap of paths of one neuron a block: the share of blocks with the same neuron.",
        _table(table, _METHOD | columns | _N),
    ]


def _classes(table: pd.DataFrame) -> list[str]:
    columns: Columns = {
        "Same class, %": lambda row: f"{100 * row['within']:.1f}",
        "Different classes, %": lambda row: f"{100 * row['between']:.1f}",
        "Difference": lambda row: _percent(row, "difference", sign=True),
    }
    return [
        "Overlap of the paths of two photographs, all of them; p by shuffling the classes.",
        _table(table, _METHOD | _K | columns | _P | _N),
    ]


def _meaning(table: pd.DataFrame) -> list[str]:
    r: Columns = {"r": lambda row: _number(row["r"])}
    return [
        "Do classes of like meaning use like neurons? Spearman's correlation, over pairs of the "
        f"{table['classes'].iloc[0]} classes, of their similarity by their paths' neurons with their distance in "
        "meaning (steps through the dataset's own tree of groceries); Mantel's test, Holm-corrected over this "
        "table. A negative r says yes.",
        _table(table, _METHOD | _K | r | _P | _N),
    ]


def _evidence(table: pd.DataFrame) -> list[str]:
    return [
        "The ten neurons that are on most paths of the search for the effect of removal (k = 1), and of all "
        "photographs under study the patches at which they are most active, one of a photograph at most. The paths "
        "count a neuron at the class token; its patches are shown because they can be looked at, and need not tell the "
        "same. Photographs: GroceryStoreDataset (Klasson et al., WACV 2019), MIT licence.",
        "![Patches that activate the ten most used neurons most](images/real-model/evidence.png)",
    ]


def _cost(table: pd.DataFrame) -> list[str]:
    columns: Columns = {
        "k": lambda row: str(row["k"] or "all"),
        "Seconds a photograph": lambda row: f"{row['seconds']:.1f}",
    }
    return [
        "Of one CPU core that other work shares, the clean pass, the check of rounding and the final score included; "
        "a method that rates every block on its own gives all sizes at once.",
        _table(table, _METHOD | columns),
    ]


_SECTIONS: Final[Mapping[str, Mapping[str, Callable[[pd.DataFrame], list[str]]]]] = {
    "What the paper claims": {"claims": _claims},
    "What the scores are made of": {"reasons": _reasons},
    "Table 1: what edits of the paths do": {"effects": _effects, "scorers": _scorers},
    "Does the effect search find what matters most?": {"searches": _searches},
    "Paths found on one picture, measured on another": {"effects": _flipped, "transfer": _transfer},
    "Does the replacement matter?": {"agreement": _agreement},
    "This class, or every class?": {"selectivity": _selectivity},
    "How much of the model a circuit keeps": {"areas": _circuits},
    "The tests of Shi et al.": {"tests": _tests},
    "Ratings against the truth": {"truth": _truth},
    "Image, class, model: how stable paths are": {"stability": _stability, "classes": _classes, "meaning": _meaning},
    "What the most used neurons answer to": {"evidence": _evidence},
    "Cost": {"cost": _cost},
}
"""Of each section the tables that it is made of, each with what writes it."""


def _foot(tables: Tables, about: Mapping[str, Any]) -> list[str]:
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items() if version)
    missing = [what for what in _missing(tables, about) if what]
    return [
        "## Not measured",
        "\n".join(f"- {what}" for what in [*missing, *_NEVER]),
        "## Make it again",
        f"Measured on {about['date']} with {versions}; {about['cpu_hours']:.1f} hours of one CPU core. Quadrature: "
        f"{about['n_steps']} Gauss–Legendre nodes, 4 for integrated gradients. Means are of {about['references']} "
        "training photographs; "
        f"donors and random sets are drawn by seed {about['seed']}. The numbers are in "
        "`experiments/results/real_model`.",
        "```bash\n"
        "git clone --depth 1 https://github.com/marcusklasson/GroceryStoreDataset\n"
        "for split in train test; do   # a folder for each coarse class\n"
        "  mkdir -p groceries/$split\n"
        "  cp -r GroceryStoreDataset/dataset/$split/*/* groceries/$split/\n"
        "done\n"
        "# the model comes from timm's hub\n"
        "python experiments/real_model.py train=groceries/train test=groceries/test \\\n"
        "  distances=experiments/groceries.json\n"
        "python experiments/real_model_page.py # this page from the tables alone\n"
        "```",
        f"The {about['n_classes']} classes: {', '.join(about['classes'])}; {about['n_train']} photographs to fit the "
        f"probe ({100 * about['probe_accuracy']:.0f} % right on those held out), {about['n_planned']} to study. "
        f"{about['note'] + ' ' if about['note'] else ''}Other weights or photographs give other digits. Any model of "
        "timm's and any two folders of classes can take their place: `model=NAME image_size=null train=DIR "
        "test=DIR`. The study stops and goes on at any time; `compute=false` writes what is there.",
    ]


_NEVER: Final = (
    "Pruning, which has a page of its own: [for good](pruning.md#a-pretrained-model) and "
    "[by the paper's protocol](pruning.md#the-papers-protocol).",
    "The paper's own models and ImageNet: `experiments/table1.py` does that where they are at hand.",
)


def _missing(tables: Tables, about: Mapping[str, Any]) -> list[str]:
    there = set(tables)
    if "stability" in tables and tables["stability"]["what"].str.endswith("nodes").any():
        there.add("rules")
    names = {"circuits": "areas", "nulls": "tests", "changes": "stability"}
    names |= {part: part for part in ("transfer", "truth", "evidence", "rules")}
    found = [f"The part `{part}`: not reached yet." for part in PARTS if names.get(part, "effects") not in there]
    if about["n_images"] < about["n_planned"]:
        found.append(
            f"{about['n_planned'] - about['n_images']} of the {about['n_planned']} photographs: not reached yet."
        )
    tried = {name for table in ("effects", "scorers") if table in tables for name in tables[table]["method"]}
    if lacking := [_label(name) for name in METHODS if name not in tried]:
        found.append(f"For their cost: {'; '.join(lacking)}.")
    if "effects" in tables:
        effects = tables["effects"]
        for k in about["sizes"]:
            there = set(effects.loc[effects["k"] == k, "method"])
            lacking = [_label(name) for name in about["methods"] if name not in there]
            if lacking:
                found.append(f"k = {k}: {'; '.join(lacking) if there else 'nothing'}{'' if there else ' yet'}.")
    return found


def _table(table: pd.DataFrame, columns: Columns) -> str:
    """A row of the table for each of its rows."""
    rows = [{title: cell(row) for title, cell in columns.items()} for row in to_records(table)]
    return markdown_table(pd.DataFrame(rows))


def _crossed(cells: pd.DataFrame, title: str = "Paths by") -> str:
    """A row for each `method`, with its `cell` of each `column`."""
    rows = [
        {title: _label(name)} | {_capital(row["column"]): row["cell"] for row in to_records(own)}
        for name, own in cells.groupby("method", sort=False)
    ]
    return markdown_table(pd.DataFrame(rows))


def _label(method: Any) -> str:
    label = METHODS[method].label
    return f"**{label}**" if method == PAPER else label


def _cell(row: Row, name: str = "", *, sign: bool = True) -> str:
    keys = (name, f"{name}_low", f"{name}_high") if f"{name}_low" in row else (name or "mean", "low", "high")
    return mean_cell(*(row[key] for key in keys), sign=sign)


def _percent(row: Row, name: str = "mean", *, sign: bool = False) -> str:
    keys = (name, f"{name}_low", f"{name}_high") if f"{name}_low" in row else (name, "low", "high")
    return mean_cell(*(100 * row[key] for key in keys), sign=sign)


def _tested(row: Row) -> str:
    return f"{_cell(row)}; {_p(row)}"


def _p(row: Row) -> str:
    return p_cell(row.get(f"p_{PAPER}", float("nan")))


def _number(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−")


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]


_METHOD: Final[Columns] = {"Paths by": lambda row: _label(row["method"])}
_K: Final[Columns] = {"k": lambda row: str(row["k"])}
_P: Final[Columns] = {"p": lambda row: p_cell(row["p"])}
_N: Final[Columns] = {"n": lambda row: str(row["n"])}
