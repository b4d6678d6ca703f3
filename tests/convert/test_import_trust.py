"""What says that the files are the ones that are meant: a digest, a manifest, the hub's list, or nothing."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest

from apr.base.errors import BadOption, CannotRead, FileMissing
from apr.base.files import sha256_file
from apr.convert import hub
from apr.convert.errors import (
    DigestUnexpected,
    FilesNotListed,
    HubHashDiffers,
    HubLocationBad,
    ListedFilesMissing,
    ManifestBad,
    ManifestContradictory,
    SeveralWeightFiles,
)
from apr.convert.manifest import Manifest, read_manifest
from apr.convert.source import SourceFile, open_source
from apr.convert.trust import establish_trust, parse_sha256
from tiny import make_hf_folder

COMMIT = "0123456789abcdef0123456789abcdef01234567"
A, B = "a" * 64, "b" * 64
SIDE_FILES = ("README.md", "generation_config.json", "special_tokens_map.json", "tokenizer_config.json")


@pytest.fixture
def folder(tmp_path):
    """A folder with every file that an import reads, and one that it does not."""
    path = make_hf_folder(tmp_path / "hf")
    (path / "tokenizer_apr.json").unlink()
    for name in SIDE_FILES:
        (path / name).write_text("---\nlicense: mit\n---\n" if name.endswith(".md") else "{}")
    (path / "vocab.txt").write_text("not read")
    return path


def digests(folder):
    return {file.name: sha256_file(file) for file in sorted(folder.iterdir()) if file.name != "vocab.txt"}


def trust(location, **said):
    if "digests" in said:
        said["manifest"] = Manifest(path="SHA256SUMS", digests=said.pop("digests"))
    return establish_trust(open_source(str(location)), str(location), **said)


# Which files decide something


def test_every_file_that_decides_something_is_described(folder):
    assert {file.name: file.sha256 for file in open_source(str(folder)).files} == digests(folder)


def test_only_what_was_read_is_described(folder):
    names = {file.name for file in open_source(str(folder), read_tokenizer=False).files}
    assert names == {"config.json", "model.safetensors", "README.md"}
    # Our own record of the special ids settles them: the published files beside it are not read.
    shutil.copy(make_hf_folder(folder.parent / "ours") / "tokenizer_apr.json", folder)
    names = {file.name for file in open_source(str(folder)).files}
    assert names == {
        *("config.json", "model.safetensors", "README.md", "tokenizer.json", "tokenizer_apr.json"),
    }


# One digest


def test_the_weights_are_the_expected_ones(folder):
    found = trust(folder, expect_sha256=digests(folder)["model.safetensors"])
    assert (found.root, found.checked) == ("sha256", ("model.safetensors",))
    assert set(found.unchecked) == set(digests(folder)) - {"model.safetensors"}
    assert "--manifest" in found.says
    assert "config" in found.unchecked[1]


def test_a_gguf_is_covered_whole_by_its_digest(make_gguf, kit):
    path = make_gguf(kit.LLAMA)
    found = trust(path, expect_sha256=sha256_file(path))
    assert (found.root, found.checked, found.unchecked) == ("sha256", ("model.gguf",), ())
    assert "--manifest" not in found.says
    with pytest.raises(DigestUnexpected) as caught:
        trust(path, expect_sha256=A)
    assert (caught.value.file, caught.value.expected) == ("model.gguf", A)
    assert caught.value.found == sha256_file(path)


def test_one_digest_for_two_files_is_refused(tmp_path, kit):
    tensors = kit.random_tensors(kit.LLAMA)
    first = sorted(tensors)[0]
    names = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
    shards = {names[0]: {first: tensors[first]}, names[1]: {n: tensors[n] for n in tensors if n != first}}
    kit.write_folder(tmp_path, kit.hf_config(kit.LLAMA), shards)
    kit.write_index(tmp_path, {name: file for file, held in shards.items() for name in held})
    with pytest.raises(SeveralWeightFiles) as caught:
        trust(tmp_path, expect_sha256=sha256_file(tmp_path / names[0]))
    assert (caught.value.count, caught.value.files) == (2, ", ".join(names))
    assert trust(tmp_path, digests=digests(tmp_path)).root == "manifest"


@pytest.mark.parametrize("text", ["", "a" * 63, "a" * 65, "g" * 64, "sha256:" + A, A + "\n", " " + A])
def test_a_digest_spelled_otherwise_is_refused(text):
    with pytest.raises(BadOption) as caught:
        parse_sha256(text)
    assert caught.value.option == "--expect-sha256"


def test_upper_case_is_the_same_digest():
    assert parse_sha256("AB" * 32) == "ab" * 32


# A manifest against a source


def test_a_manifest_covers_every_file(folder):
    found = trust(folder, digests=digests(folder))
    assert (found.root, found.unchecked) == ("manifest", ())
    assert set(found.checked) == set(digests(folder))


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json", *SIDE_FILES])
def test_a_file_that_is_not_listed_is_refused_by_name(folder, name):
    listed = digests(folder)
    del listed[name]
    with pytest.raises(FilesNotListed) as caught:
        trust(folder, digests=listed)
    assert caught.value.files == name


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json", *SIDE_FILES])
def test_a_file_that_differs_is_refused_by_name(folder, name):
    with pytest.raises(DigestUnexpected) as caught:
        trust(folder, digests=digests(folder) | {name: A})
    assert (caught.value.file, caught.value.said_by) == (name, "SHA256SUMS")


def test_a_manifest_of_more_files_is_taken(folder):
    more = {"vocab.txt": A, "merges.txt": A, "onnx/model.safetensors": A, "pytorch_model.bin": A}
    assert trust(folder, digests=digests(folder) | more).root == "manifest"


@pytest.mark.parametrize("name", ["model-00002-of-00002.safetensors", "extra.gguf"])
def test_listed_weights_that_are_not_there_are_refused(folder, name):
    with pytest.raises(ListedFilesMissing) as caught:
        trust(folder, digests=digests(folder) | {name: A})
    assert caught.value.files == name


def test_a_gguf_that_was_named_needs_no_other(make_gguf, kit):
    path = make_gguf(kit.LLAMA)
    listed = {"model.gguf": sha256_file(path), "model-q8.gguf": A}
    assert trust(path, digests=listed).checked == ("model.gguf",)
    with pytest.raises(ListedFilesMissing):
        trust(path.parent, digests=listed)


def test_both_must_hold(folder):
    listed = digests(folder)
    assert trust(folder, digests=listed, expect_sha256=listed["model.safetensors"]).root == "manifest"
    with pytest.raises(DigestUnexpected) as caught:
        trust(folder, digests=listed, expect_sha256=A)
    assert caught.value.said_by == "--expect-sha256"


def test_without_anything_it_is_said(folder):
    found = trust(folder)
    assert (found.root, found.checked) == ("first use", ())
    assert set(found.unchecked) == set(digests(folder))
    assert {"--expect-sha256", "--manifest"} <= set(found.says.split())


# Reading a manifest


SPELLINGS = {
    "sha256sum": f"{A}  x\n{B}  y z\n",
    "binary": f"{A} *x\n{B} *y z\n",
    "without the last line's end": f"{A}  x\n{B}  y z",
    "as find spells them": f"{A}  ./x\n{B}  ./y z\n",
    "upper case": f"{A.upper()}  x\n{B.upper()}  y z\n",
    "twice the same": f"{A}  x\n{B}  y z\n{A}  ./x\n",
    "a list": json.dumps({"files": [{"name": "x", "sha256": A}, {"sha256": B, "name": "y z"}]}),
    "an object": json.dumps({"x": A, "y z": B}, indent=2),
    "an object twice the same": f'\n {{"x": "{A}", "y z": "{B}", "x": "{A}"}}',
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_both_forms_are_read(tmp_path, spelling):
    (tmp_path / "m").write_text(SPELLINGS[spelling])
    assert read_manifest(tmp_path / "m").digests == {"x": A, "y z": B}


def test_a_file_called_files_is_no_list(tmp_path):
    (tmp_path / "m").write_text(json.dumps({"files": A}))
    assert read_manifest(tmp_path / "m").digests == {"files": A}


BAD: dict[str, tuple[str | bytes, str]] = {
    "empty": ("", "line 1"),
    "an empty line": (f"{A}  x\n\n{A}  y\n", "line 2"),
    "a comment": (f"{A}  x\n# {B}  y\n", "line 2"),
    "no name": (f"{A}  x\n{A}  \n", "line 2"),
    "one space": (f"{A} x\n", "line 1"),
    "three spaces": (f"{A}   x\n", "line 1"),
    "a short digest": (f"{A}  x\n{A}  y\n{A[:-1]}  z\n", "line 3"),
    "a long digest": (f"{A}a  x\n", "line 1"),
    "the other order": (f"x  {A}\n", "line 1"),
    "as BSD spells it": (f"SHA256 (x) = {A}\n", "line 1"),
    "an escaped name": (f"\\{A}  x\\n\n", "line 1"),
    "lines of Windows": (f"{A}  x\r\n", "line 1"),
    "a control character": (f"{A}  x\x07y\n", "line 1"),
    "a byte order mark": (f"\ufeff{A}  x\n", "line 1"),
    "bytes that are no text": (f"{A}  x\n{A}  ".encode() + b"\xff\n", "line 2"),
    "a list alone": (json.dumps([{"name": "x", "sha256": A}]), "line 1"),
    "JSON cut off": ('{\n"x":\n"' + A, "line 3"),
    "two objects": (f'{{"x": "{A}"}}\n{{}}', "line 2"),
    "no files": ('{"files": []}', "the file"),
    "no object's pairs": ("{}", "the file"),
    "too deep": ('{"files": ' + "[" * 100_000, "the file"),
    "no digest": (json.dumps({"x": A, "y": "abc"}), "entry 2"),
    "a number": (json.dumps({"x": 1}), "entry 1"),
    "an object for a digest": (json.dumps({"files": {"x": A}}), "entry 1"),
    "a key beside files": (json.dumps({"files": [], "version": 1}), "entry 1"),
    "an entry that is none": (json.dumps({"files": [{"name": "x", "sha256": A}, "y"]}), "entry 2"),
    "an entry without a digest": (json.dumps({"files": [{"name": "x"}]}), "entry 1"),
    "an entry with more": (json.dumps({"files": [{"name": "x", "sha256": A, "size": 1}]}), "entry 1"),
    "an entry with two names": (f'{{"files": [{{"name": "x", "name": "y", "sha256": "{A}"}}]}}', "entry 1"),
    "an entry whose name is none": (json.dumps({"files": [{"name": 1, "sha256": A}]}), "entry 1"),
    "an empty name": (json.dumps({"": A}), "entry 1"),
}


@pytest.mark.parametrize("defect", BAD)
def test_anything_else_is_refused_at_its_place(tmp_path, defect):
    content, place = BAD[defect]
    (tmp_path / "m").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ManifestBad) as caught:
        read_manifest(tmp_path / "m")
    assert (caught.value.path, caught.value.place) == (str(tmp_path / "m"), place)
    assert "\n" not in str(caught.value)


CONTRADICTIONS = {
    "lines": f"{A}  x\n{B}  ./x\n",
    "an object": f'{{"x": "{A}", "x": "{B}"}}',
    "a list": json.dumps({"files": [{"name": "x", "sha256": A}, {"name": "x", "sha256": B}]}),
}


@pytest.mark.parametrize("form", CONTRADICTIONS)
def test_one_name_with_two_digests_is_refused(tmp_path, form):
    (tmp_path / "m").write_text(CONTRADICTIONS[form])
    with pytest.raises(ManifestContradictory) as caught:
        read_manifest(tmp_path / "m")
    assert (caught.value.name, caught.value.first, caught.value.second) == ("x", A, B)


def test_a_manifest_that_is_not_there(tmp_path):
    with pytest.raises(FileMissing) as caught:
        read_manifest(tmp_path / "m")
    assert caught.value.kind == "manifest"


# The hub's own list


def sibling(path, *, as_lfs, **changes):
    """What the hub says of a file, as its client gives it."""
    content = path.read_bytes()
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    lfs = SimpleNamespace(sha256=hashlib.sha256(content).hexdigest(), size=len(content), pointer_size=134)
    values = {"rfilename": path.name, "blob_id": "c" * 40 if as_lfs else blob, "lfs": lfs if as_lfs else None}
    return SimpleNamespace(**(values | changes))


@pytest.fixture
def on_hub(monkeypatch, folder, tmp_path):
    """Stand in for the hub: `on_hub(change)` downloads the folder, and lists its files after `change`."""

    def put(change=lambda listed: None, refuse=None):
        snapshot = tmp_path / COMMIT
        shutil.copytree(folder, snapshot)
        listed = {
            path.name: sibling(path, as_lfs=path.suffix == ".safetensors") for path in snapshot.iterdir()
        }
        change(listed)
        asked = []

        class Api:
            def model_info(self, repo, *, revision, files_metadata, timeout):
                asked.append((repo, revision, files_metadata))
                if refuse is not None:
                    raise refuse
                return SimpleNamespace(siblings=list(listed.values()))

        monkeypatch.setattr(hub, "snapshot_download", lambda repo, **options: str(snapshot))
        monkeypatch.setattr(hub, "HfApi", Api)
        return asked

    return put


def test_the_hub_vouches_for_every_file(on_hub, folder):
    asked = on_hub()
    found = trust("hf://org/name@main")
    assert asked == [("org/name", COMMIT, True)]  # the commit, not the branch that may have moved on
    assert (found.root, found.unchecked) == ("hub", ())
    assert set(found.checked) == set(digests(folder))


def test_git_itself_gives_that_blob_id(tmp_path):
    (tmp_path / "hello").write_bytes(b"what is up, doc?")
    # The example of the Git book, chapter 10.2.
    assert hub.git_blob_id(tmp_path / "hello") == "bd9dbf5aae1a3862dd1526723246b20206e5fc37"
    with pytest.raises(CannotRead):
        hub.git_blob_id(tmp_path / "nothing")


def another(name, **values):
    return lambda listed: listed[name].__dict__.update(values)


@pytest.mark.parametrize(
    ("name", "change", "kind"),
    [
        ("model.safetensors", {"lfs": SimpleNamespace(sha256=A)}, "sha256"),
        ("config.json", {"blob_id": "d" * 40}, "git blob id"),
        ("tokenizer.json", {"lfs": SimpleNamespace(sha256=A)}, "sha256"),
        ("README.md", {"blob_id": "d" * 40}, "git blob id"),
    ],
)
def test_a_file_that_the_hub_lists_otherwise_is_refused(on_hub, name, change, kind):
    on_hub(another(name, **change))
    with pytest.raises(HubHashDiffers) as caught:
        trust("hf://org/name")
    assert (caught.value.file, caught.value.kind) == (name, kind)
    assert caught.value.expected in (A, "d" * 40)


def test_a_file_without_a_hash_is_said(on_hub):
    on_hub(another("config.json", blob_id=None))
    found = trust("hf://org/name")
    assert (found.root, found.unchecked) == ("hub", ("config.json",))
    assert "config.json" in found.says


@pytest.mark.parametrize(
    "change", [another("model.safetensors", blob_id=None, lfs=None), lambda listed: listed.clear()]
)
def test_weights_without_a_hash_are_first_use(on_hub, change):
    on_hub(change)
    found = trust("hf://org/name")
    assert found.root == "first use"
    assert "model.safetensors" in found.unchecked
    assert "the hub gives no hash" in found.says


@pytest.mark.parametrize("error", [ConnectionError("no route"), ValueError("request 1234"), RuntimeError()])
def test_a_hub_that_cannot_be_asked_is_said(on_hub, error):
    on_hub(refuse=error)
    found = trust("hf://org/name")
    assert (found.root, found.checked) == ("first use", ())
    assert f"the hub was not asked ({type(error).__name__})" in found.says
    assert "1234" not in found.says  # what changes from one request to the next has no place in the file


def test_a_manifest_comes_before_the_hub_which_still_is_asked(on_hub, folder):
    asked = on_hub(refuse=ConnectionError())
    # A whole repository's list names weights in forms that are not downloaded.
    more = {"consolidated.safetensors": A, "model.gguf": A}
    found = trust("hf://org/name", digests=digests(folder) | more)
    assert (found.root, found.unchecked) == ("manifest", ())
    assert asked
    assert "the hub was not asked" in found.says
    with pytest.raises(ListedFilesMissing):
        trust("hf://org/name", digests=digests(folder) | {"model-00002-of-00002.safetensors": A})


def test_a_manifest_does_not_excuse_what_the_hub_lists_otherwise(on_hub, folder):
    on_hub(another("model.safetensors", lfs=SimpleNamespace(sha256=A)))
    with pytest.raises(HubHashDiffers):
        trust("hf://org/name", digests=digests(folder))


def test_the_hub_is_not_asked_about_the_callers_tokenizer(on_hub):
    on_hub()
    source = open_source("hf://org/name", read_tokenizer=False)
    given = SourceFile(name="tokenizer.json", sha256=A, size_bytes=1, revision=None)
    found = establish_trust(replace(source, files=(*source.files, given)), "hf://org/name")
    assert (found.root, found.unchecked) == ("hub", ("tokenizer.json",))


def test_a_folder_is_not_asked_about(on_hub, folder):
    asked = on_hub()
    assert trust(folder).root == "first use"
    assert asked == []


def test_hashes_of_no_location():
    with pytest.raises(HubLocationBad):
        hub.published_hashes("hf://only-one", COMMIT)
