from hypothesis import given
from hypothesis import strategies as st

from cernvm.core.digest import Algorithm
from cernvm.fs.format.compress import Compression
from cernvm.fs.format.objects import ObjectKind
from cernvm.fs.format.pack import Pack
from cernvm.fs.format.profile import Access, Profile
from cernvm.fs.reader.ahead.course import Wanted, WantedPack
from cernvm.fs.reader.ahead.recognition import Recognition, profile_steps

SHA1 = Algorithm.SHA1


def access(path, *, kind=ObjectKind.PLAIN, pack=None, part=b""):
    return Access(path, SHA1.digest(path + part), kind, Compression.ZLIB, 10, pack=pack)


def profile(*accesses, label="p", trigger=3, packs=()):
    return Profile(label, trigger, tuple(packs), tuple(accesses))


def raw(path, part=b""):
    return SHA1.digest(path + part).raw


@given(st.permutations([b"/a", b"/b", b"/c"]))
def test_a_program_has_begun_once_all_its_first_files_were_read_in_any_order(order):
    known = profile(*(access(path) for path in (b"/a", b"/b", b"/c", b"/d")))
    recognition = Recognition([known])

    begun = [recognition.read(raw(path)) for path in order]

    assert begun == [[], [], [known]]


def test_one_file_read_often_is_one_file():
    recognition = Recognition([profile(access(b"/a"), access(b"/b"))])
    assert not any(recognition.read(raw(b"/a")) for _ in range(5))


def test_what_comes_later_in_the_profile_is_not_watched():
    recognition = Recognition([profile(access(b"/a"), access(b"/b"), trigger=1)])
    assert recognition.digests == {raw(b"/a")}


def test_any_chunk_stands_for_its_file_and_catalogs_for_none():
    known = profile(
        access(b"/n", kind=ObjectKind.CATALOG),
        access(b"/big", kind=ObjectKind.PARTIAL, part=b"1"),
        access(b"/big", kind=ObjectKind.PARTIAL, part=b"2"),
        trigger=1,
    )
    assert Recognition([known]).read(raw(b"/big", b"2")) == [known]


def test_a_program_may_begin_again():
    known = profile(access(b"/a"), trigger=1)
    recognition = Recognition([known])
    assert recognition.read(raw(b"/a")) == recognition.read(raw(b"/a")) == [known]


def test_a_profile_is_fetched_in_its_order_each_pack_once():
    packs = [Pack(SHA1.digest(b"%d" % n), 100, 2) for n in range(2)]
    known = profile(
        access(b"/a", pack=0),
        access(b"/big"),
        access(b"/b", pack=0),
        access(b"/c", pack=1),
        packs=packs,
    )

    steps = list(profile_steps(known))

    assert [type(step) for step in steps] == [WantedPack, Wanted, WantedPack]
    assert [step.pack for step in steps if isinstance(step, WantedPack)] == packs
