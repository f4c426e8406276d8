import json

import pytest

from gr2.teach.cache import ReplyCache

REQUEST = {"url": "http://x/v1", "body": {"model": "m", "messages": [{"role": "user", "content": "höre <|end|>"}]}}
REPLY = {"choices": [{"message": {"content": "ja \ud800"}}], "usage": {"prompt_tokens": 3}}


def test_what_was_put_is_got(tmp_path):
    cache = ReplyCache(folder=tmp_path / "teacher")
    assert cache.get(REQUEST) is None
    cache.put(REQUEST, REPLY)
    assert cache.get(REQUEST) == REPLY
    assert cache.get(json.loads(json.dumps(REQUEST, sort_keys=True))) == REPLY
    assert not list(tmp_path.rglob("*.partial"))


@pytest.mark.parametrize(
    "other",
    [
        {**REQUEST, "url": "http://y/v1"},
        {**REQUEST, "body": {**REQUEST["body"], "seed": 1}},
        {**REQUEST, "body": {**REQUEST["body"], "model": "n"}},
    ],
)
def test_every_part_of_the_request_counts(tmp_path, other):
    cache = ReplyCache(folder=tmp_path)
    cache.put(REQUEST, REPLY)
    assert cache.get(other) is None


def test_a_half_written_entry_is_none_wherever_it_was_cut(tmp_path):
    cache = ReplyCache(folder=tmp_path)
    cache.put(REQUEST, REPLY)
    whole = cache.path(REQUEST).read_bytes()
    for length in range(len(whole)):
        cache.path(REQUEST).write_bytes(whole[:length])
        assert cache.get(REQUEST) is None
    cache.put(REQUEST, REPLY)
    assert cache.get(REQUEST) == REPLY


@pytest.mark.parametrize("damage", [b"[]", b"null", b"{}", b"\xff\xfe", b'{"request": 1, "reply": {}, "digest": ""}'])
def test_a_damaged_entry_is_none(tmp_path, damage):
    cache = ReplyCache(folder=tmp_path)
    cache.put(REQUEST, REPLY)
    cache.path(REQUEST).write_bytes(damage)
    assert cache.get(REQUEST) is None


def test_a_changed_reply_is_none(tmp_path):
    cache = ReplyCache(folder=tmp_path)
    cache.put(REQUEST, REPLY)
    entry = json.loads(cache.path(REQUEST).read_text())
    entry["reply"]["usage"]["prompt_tokens"] = 2
    cache.path(REQUEST).write_text(json.dumps(entry))
    assert cache.get(REQUEST) is None
