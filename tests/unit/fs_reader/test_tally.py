from cernvm.fs.reader.ahead.tally import MIN_JUDGED, REST_S, Tally, Way


def test_a_way_is_tried_until_enough_is_known_of_it():
    tally = Tally()
    for _ in range(MIN_JUDGED - 1):
        tally.wasted(Way.DIRECTORY, 10)
    assert tally.pays(Way.DIRECTORY, 0.0)


def test_a_way_that_wastes_rests_and_is_then_tried_afresh():
    tally = Tally()
    for _ in range(MIN_JUDGED):
        tally.wasted(Way.DIRECTORY, 10)

    assert not tally.pays(Way.DIRECTORY, 0.0)
    assert not tally.pays(Way.DIRECTORY, REST_S - 1)
    assert tally.pays(Way.DIRECTORY, REST_S)


def test_one_way_pays_while_another_does_not():
    tally = Tally()
    for _ in range(MIN_JUDGED):
        tally.wasted(Way.CATALOG, 10)
        tally.used(Way.CHUNK, 10)

    assert not tally.pays(Way.CATALOG, 0.0)
    assert tally.pays(Way.CHUNK, 0.0)


def test_of_packs_a_few_used_objects_pay_for_the_rest():
    tally = Tally()
    for number in range(4 * MIN_JUDGED):
        (tally.wasted if number % 20 else tally.used)(Way.PACK, 10)
    assert tally.pays(Way.PACK, 0.0)


def test_the_figures_are_told_by_way():
    tally = Tally()
    tally.fetched(Way.PACK, 3, 300)
    tally.used(Way.PACK, 100)
    tally.wasted(Way.PACK, 50)
    tally.failed(Way.PROFILE)

    rows = tally.rows()

    assert rows["pack"] == {
        "fetched": 3,
        "fetched_bytes": 300,
        "used": 1,
        "used_bytes": 100,
        "wasted": 1,
        "wasted_bytes": 50,
        "failed": 0,
    }
    assert rows["profile"]["failed"] == 1
