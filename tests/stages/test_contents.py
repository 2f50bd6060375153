from __future__ import annotations

import hashlib
import os
import shutil

import pytest

from harness.stages import contents


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """A file that counts as large, and the folder in which digests of such are remembered."""
    monkeypatch.setattr(contents, "LARGE", 10)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "weights").write_bytes(b"a" * 10)
    return tmp_path / "weights", tmp_path / "cache" / "got-r1-harness" / "digests"


def _digest_in_a_new_process(file):
    contents._file_digest.cache_clear()
    return contents.file_digest(file)


def test_a_large_file_is_read_once_for_all_processes(weights, monkeypatch):
    file, memory = weights
    digest = _digest_in_a_new_process(file)
    assert digest == hashlib.sha256(b"a" * 10).hexdigest() and len(list(memory.iterdir())) == 1
    monkeypatch.setattr(contents, "_read", lambda path: pytest.fail("read again"))
    assert _digest_in_a_new_process(file) == digest
    (file.parent / "link").symlink_to(file)
    assert _digest_in_a_new_process(file.parent / "link") == digest


def test_a_large_file_that_was_changed_is_read_again(weights):
    file, _ = weights
    digest = _digest_in_a_new_process(file)
    file.write_bytes(b"b" * 10)
    os.utime(file, ns=(0, 1))
    assert _digest_in_a_new_process(file) != digest


@pytest.mark.parametrize("damage", [b"", b"\xff\xfe", None], ids=["cut", "noise", "unwritable"])
def test_a_lost_memory_of_digests_does_no_harm(weights, damage):
    file, memory = weights
    digest = _digest_in_a_new_process(file)
    (known,) = memory.iterdir()
    if damage is None:
        shutil.rmtree(memory)
        memory.write_text("in the way")
    else:
        known.write_bytes(damage)
    assert _digest_in_a_new_process(file) == digest


def test_a_small_file_leaves_nothing_behind(weights):
    file, memory = weights
    file.write_bytes(b"a" * 9)
    _digest_in_a_new_process(file)
    assert not memory.exists()


def test_a_folder_counts_by_the_names_and_bytes_of_its_files(tmp_path):
    for folder, name, text in (("a", "x", "1"), ("b", "x", "1"), ("c", "y", "1"), ("d", "x", "2")):
        (tmp_path / folder / "deep").mkdir(parents=True)
        (tmp_path / folder / "deep" / name).write_text(text)
    a, b, c, d = (contents.digest(tmp_path / folder) for folder in "abcd")
    assert a == b and len({a, c, d}) == 3


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match="nowhere does not exist: give the path of an existing file"):
        contents.digest(tmp_path / "nowhere")
