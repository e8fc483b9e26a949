from cernvm.core.digest import Algorithm
from cernvm.fs.format.pack import Pack
from cernvm.fs.reader.ahead.course import Folder, Stop
from cernvm.fs.reader.ahead.trail import MANY_MISSES, NEAR_S, Trail

NAMES = [b"q", b"c", b"x", b"a", b"m", b"__init__", b"e", b"z"]  # in the order of the listing


def folder(names=NAMES, packs=()):
    return Folder([Stop(name, is_directory=False, is_file=True) for name in names], packs)


def test_misses_in_the_order_of_the_listing_are_a_walk():
    trail = Trail()
    evidence = [trail.note(b"/d/" + name, folder()) for name in NAMES[:4]]
    assert [one.is_walk for one in evidence] == [False, False, True, True]


def test_a_walk_goes_on_in_the_next_directory():
    trail = Trail()
    for name in NAMES[:3]:
        trail.note(b"/d/" + name, folder())
    assert trail.note(b"/e/" + NAMES[0], folder()).is_walk


def test_misses_in_the_order_of_names_are_a_walk_too():
    trail = Trail()
    evidence = [trail.note(b"/d/" + name, folder()) for name in sorted(NAMES)[:5]]
    assert evidence[-1].is_walk


def test_a_program_that_picks_files_here_and_there_is_none():
    trail = Trail()
    picks = [(b"/d", b"x"), (b"/d", b"e"), (b"/e", b"__init__"), (b"/f", b"__init__")]
    picks += [(b"/f", b"q"), (b"/g", b"__init__"), (b"/g", b"m"), (b"/h", b"__init__")]
    assert not any(trail.note(path + b"/" + name, folder()).is_walk for path, name in picks)


def test_a_few_strays_do_not_end_a_walk_and_many_do():
    trail = Trail()
    for name in NAMES:
        trail.note(b"/d/" + name, folder())
    assert trail.note(b"/e/m", folder()).is_walk
    for number in range(6):
        last = trail.note(b"/%d/m" % number, folder())
    assert not last.is_walk


def test_a_directory_that_cannot_be_looked_at_tells_nothing():
    assert not Trail().note(b"/d/a", None).is_walk


def test_from_far_any_miss_suffices_and_near_by_only_a_walk_or_many_in_packs():
    pack = Pack(Algorithm.SHA1.digest(b"pack"), 100, 3)
    first = Trail().note(b"/d/m", folder())
    assert first.suffices(NEAR_S)
    assert not first.suffices(NEAR_S / 2)

    trail = Trail()
    for _ in range(MANY_MISSES):
        last = trail.note(b"/d/m", folder(packs=[pack]))
    assert last.suffices(NEAR_S / 2)
