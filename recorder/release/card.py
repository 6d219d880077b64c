"""README.md: the model card, as the Hugging Face Hub shows it.

Every number in it stands in a table row with a link to the released file that it was read from and that file's digest;
all files so named are listed at the end with their full digests. What publishers say stands in quotes. What nobody
recorded or stated is called that.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from recorder.bundle import layout
from recorder.bundle.reader import Bundle
from recorder.errors import BundleError
from recorder.ledger import events
from recorder.release.contents import CITATION, CRATE, CROISSANT, OPENNESS, Contents, Told
from recorder.release.export import WEIGHTS
from recorder.release.facts import Fact, Facts, plain
from recorder.release.hub_metadata import front_matter
from recorder.release.markdown import link, table, text
from recorder.release.openness import CLASSES, openness

NOT_STATED = "Not stated."

_SHOWN_DIGITS = 16

Lines = Iterator[str]


class Card:
    """One card. `render` gives its bytes, the same for the same contents."""

    def __init__(self, contents: Contents) -> None:
        self._contents = contents
        self._sources: set[str] = set()

    def render(self) -> bytes:
        """README.md."""
        body = [line for part in self._parts() for line in part]
        return "\n".join([front_matter(self._contents), *body, *self._sources_section()]).encode()

    def _parts(self) -> Iterator[Lines]:
        yield self._head()
        yield self._use()
        for bundle in self._contents.bundles:
            yield self._run(bundle)
        yield self._altered()
        yield self._openness()
        yield self._check()

    def _head(self) -> Lines:
        stated = self._contents.statement
        yield from ("", f"# {text(self._contents.title)}", "")
        if self._contents.problems:
            yield "> **Published as it is:** not every record in this release verifies."
            yield from (f"> - {text(problem)}" for problem in self._contents.problems)
            yield ""
        yield "Written from the record of the training run. Each row names the file it was read from and its digest;"
        yield "what stands in quotes was said by those who publish it and is not in the record."
        yield ""
        sections = (
            ("Summary", stated.summary),
            ("Intended use", stated.intended_use),
            ("Limitations and risks", stated.limitations),
            ("Authors", ", ".join(map(_author, stated.authors)) or None),
            ("Licences", ", ".join(f"{part} {licence}" for part, licence in sorted(stated.licences.items())) or None),
        )
        for name, value in sections:
            yield from (f"**{name}.** {NOT_STATED if value is None else ''}".rstrip(), "")
            yield from [f"> {text(value)}", ""] if value else []
        addresses = {"Home": stated.url, "Source repository": stated.repository, "Data card": stated.data_card}
        addresses |= {"Technical report": stated.technical_report, "Research paper": stated.research_paper}
        for name, address in addresses.items():
            yield from [f"{name}: {link(name.lower(), address)}", ""] if address else []

    def _use(self) -> Lines:
        exported = self._contents.exported
        if exported is None or WEIGHTS not in self._contents.files:
            yield from (
                "## Use",
                "",
                "This release holds no export for `transformers`; the checkpoints are as recorded.",
                "",
            )
            return
        bundle = next(bundle for bundle in self._contents.bundles if bundle.id == exported.run)
        yield from ("## Use", "", "```python", "from transformers import AutoModelForCausalLM, AutoTokenizer", "")
        yield 'tokenizer = AutoTokenizer.from_pretrained(".")  # this folder, or the name of this repository'
        yield 'model = AutoModelForCausalLM.from_pretrained(".", attn_implementation="sdpa")'
        yield from ("```", "", "The weights are those of the checkpoint, byte for byte.", "")
        source = self._contents.published(bundle, f"{exported.checkpoint}/{layout.CHECKPOINT_MODEL}")
        files = [WEIGHTS] if source is None else [WEIGHTS, source]
        if len({self._contents.files[path]["sha256"] for path in files}) > 1:
            raise BundleError(f"{WEIGHTS} is not {source}: export it again from the released bundle")
        yield from self._table([Fact("exported", f"{exported.run}, step {exported.step}", tuple(files))])

    def _run(self, bundle: Bundle) -> Lines:
        facts = Facts(self._contents, bundle)
        yield from (f"## Run {text(bundle.id)}", "")
        for name, told in (("Model", facts.model()), ("Training", facts.training()), ("Data", facts.data())):
            yield from (f"### {name}", "")
            yield from self._table(told) if told else ["Not recorded, or not released.", ""]
        yield from ("### Attempts", "")
        yield from table(("attempt", "began", "ended", "outcome", "from"), self._attempts(bundle))
        yield from ("### Checkpoints", "")
        checkpoints = list(self._checkpoints(bundle))
        yield from table(("step", "bytes", "state", "from"), checkpoints) if checkpoints else ["None were saved.", ""]

    def _attempts(self, bundle: Bundle) -> Iterator[tuple[str, ...]]:
        placed: dict[int, list[Told]] = {}
        for told in self._contents.told(bundle, events.ATTEMPT_STARTED, events.ATTEMPT_ENDED):
            placed.setdefault(told.event["attempt"], []).append(told)
        for attempt in bundle.attempts:
            paths = sorted({told.path for told in placed.get(attempt.number, [])})
            ended = (
                "not known"
                if attempt.ended is None
                else f"killed, noted {attempt.ended}"
                if attempt.recovered
                else attempt.ended
            )
            cells = (str(attempt.number), attempt.started, ended, attempt.outcome or "not known")
            if origin := self._origin(bundle, paths):
                yield (*map(text, cells), origin)

    def _checkpoints(self, bundle: Bundle) -> Iterator[tuple[str, ...]]:
        saved = {told.fields["path"]: told.path for told in self._contents.told(bundle, events.CHECKPOINT_SAVED)}
        gone = {told.fields["path"]: told.path for told in self._contents.told(bundle, events.CHECKPOINT_REMOVED)}
        for checkpoint in bundle.checkpoints:
            weights = f"{checkpoint.path}/{layout.CHECKPOINT_MODEL}"
            paths = [saved[checkpoint.path]]
            if checkpoint.removed is not None:
                state, paths = f"removed: {checkpoint.removed or 'no reason recorded'}", [*paths, gone[checkpoint.path]]
            elif self._contents.published(bundle, weights):
                state, paths = "released", [*paths, weights]
            else:
                state = "not released"
            exported = [place for place in (f"{checkpoint.path}/{WEIGHTS}",) if self._is_export(bundle, place)]
            if origin := self._origin(bundle, sorted(set(paths)), exported):
                yield (text(str(checkpoint.step)), text(str(checkpoint.size)), text(state), origin)

    def _altered(self) -> Lines:
        """What is not as it was recorded; each released bundle says the same in its addenda."""
        yield from ("## Withheld and edited", "")
        if not self._contents.withheld and not self._contents.edited:
            yield from ("Nothing that the runs recorded was withheld or edited.", "")
            return
        withheld = [(record, record, record.get("reason") or NOT_STATED) for record in self._contents.withheld]
        edited = [(record, record["original"], "redacted") for record in self._contents.edited]
        rows = [
            (what, text(plain(record["run"])), text(plain(record["path"])), text(plain(reason)), _code(original))
            for what, group in (("withheld", withheld), ("edited", edited))
            for record, original, reason in group
        ]
        yield from table(("what", "run", "file", "reason", "BLAKE3 of the original"), rows)

    def _openness(self) -> Lines:
        found = openness(self._contents)
        reached = CLASSES[found.reached] if found.reached else "no class"
        yield from ("## Openness", "")
        yield f"After the Model Openness Framework this release reaches: **{reached}** ({link(OPENNESS, OPENNESS)})."
        yield "It is a checklist of what is there and how it is licensed; nobody has judged it."
        yield ""
        rows = [
            (
                text(item.name),
                CLASSES[item.mof_class].split(",")[0],
                text(item.status),
                text(item.licence or "none stated") if item.evidence else "",
            )
            for item in found.components
        ]
        yield from table(("component", "asked for by", "state", "licence"), rows)

    def _check(self) -> Lines:
        yield from ("## Check it", "", "```", "pip install run-recorder", "recorder verify .", "```", "")
        others = [CRATE, CITATION, OPENNESS] + ([CROISSANT] if self._contents.data_files() else [])
        reports = [
            path for path in sorted(self._contents.files) if path.startswith("report") and path.endswith(".html")
        ]
        yield from [f"To look at: {', '.join(link(path, path) for path in reports)}.", ""] if reports else []
        yield f"Described for programs in {', '.join(link(name, name) for name in others)}."
        yield ""

    def _table(self, facts: Iterable[Fact]) -> list[str]:
        rows = [(text(fact.label), text(fact.value), self._links(fact.sources)) for fact in facts]
        return table(("what", "value", "from"), rows)

    def _is_export(self, bundle: Bundle, place: str) -> bool:
        """Whether `place` is a checkpoint of the exported run, exported too."""
        exported = self._contents.exported
        return exported is not None and exported.run == bundle.id and place in self._contents.files

    def _origin(self, bundle: Bundle, paths: list[str], others: Iterable[str] = ()) -> str | None:
        """Links to files of a bundle, and to `others` of the release; None where one of the bundle is not released."""
        places = [self._contents.published(bundle, path) for path in paths]
        return self._links([*(place for place in places if place), *others]) if places and None not in places else None

    def _links(self, paths: Iterable[str]) -> str:
        self._sources |= (named := set(paths))
        shown = {path: str(self._contents.files[path]["sha256"])[:_SHOWN_DIGITS] for path in sorted(named)}
        return "<br>".join(f"{link(_short(path), path)} `{digits}`" for path, digits in shown.items())

    def _sources_section(self) -> Lines:
        yield from ("## Sources", "", "Digests above are the first digits of the SHA-256.", "")
        rows = [(path, self._contents.files[path]) for path in sorted(self._sources)]
        cells = [
            (link(path, path), str(record["size"]), f"`{record['sha256']}`", f"`{record['blake3']}`")
            for path, record in rows
        ]
        yield from table(("file", "bytes", "SHA-256", "BLAKE3"), cells)


def model_card(contents: Contents) -> bytes:
    """README.md."""
    return Card(contents).render()


def _author(author: dict[str, str]) -> str:
    name = author.get("name") or f"{author.get('given-names', '')} {author.get('family-names', '')}".strip()
    return f"{name} ({author['affiliation']})" if "affiliation" in author else name


def _short(path: str) -> str:
    """A path without the folder of its run."""
    parts = path.split("/")
    return "/".join(parts[2:]) if len(parts) > 2 and parts[0] == "runs" else path


def _code(original: Mapping[str, Any]) -> str:
    return f"`{digest}`" if (digest := original.get("blake3")) else ""
