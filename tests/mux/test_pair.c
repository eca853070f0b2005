/*
 * Two sessions under random schedules (pair.h).
 *
 * Run with a number to repeat a seed, and with a second one to take more steps.
 */
#include "mux/pair.h"

static void run(const char *name, bool v2, const struct mux_config *c, unsigned steps) {
    size_t live = ht_mem_live();
    uint64_t began = seed;
    violations = completed = resets = 0;
    start(v2, c);
    for (unsigned i = 0; i < steps && violations == 0; i++)
        step();
    settle();
    CU_ASSERT_EQUAL(kit.overs + driver.overs, 0);
    CU_ASSERT_EQUAL(violations, 0);
    CU_ASSERT(completed > 20);
    printf("# %s: seed %llu, %u streams, %u ends in order, %u resets\n", name, (unsigned long long)began, kit.n_sides,
           completed, resets);
    finish(live);
}

static void usual_windows(void) {
    for (int i = 0; i < 4; i++)
        run("usual windows", false, &usual, steps_wanted / 4);
}

static void small_windows(void) {
    static const uint32_t sizes[] = {500, 1000, 65536, 131072};
    for (size_t i = 0; i < HT_ARRAY_LEN(sizes); i++) {
        struct mux_config c = usual;
        c.stream_window = sizes[i];
        c.session_window = sizes[i] * 2;
        c.session_buffer = sizes[i];
        run("small windows", false, &c, sizes[i] == 500 ? steps_wanted / 20 : steps_wanted / 4);
    }
}

static void a_tight_session(void) {
    struct mux_config c = usual;
    c.session_window = 65536;
    c.session_buffer = 0;
    run("a tight session", false, &c, steps_wanted / 4);
}

static void growing_windows(void) {
    struct mux_config c = usual;
    c.caps = WIRE_CAP_AUTO_WINDOW | WIRE_CAP_LARGE_WINDOW;
    c.max_window = 64u << 20;
    c.stream_window = 65536;
    run("growing windows", false, &c, steps_wanted / 4);
}

static void with_trailers(void) {
    struct mux_config c = usual;
    c.caps = WIRE_CAP_TRAILERS;
    trailers = 0;
    run("with trailers", false, &c, steps_wanted / 4);
    run("with trailers", true, &c, steps_wanted / 4);
    CU_ASSERT(trailers > 10);
}

static void published_peers(void) {
    struct mux_config c = usual;
    c.own_peer = false;
    run("published peers", false, &c, steps_wanted / 4);
}

static void several_links(void) {
    for (int i = 0; i < 4; i++)
        run("several links", true, &usual, steps_wanted / 4);
}

/* A secondary drops in the middle of everything: its streams end, the others do not notice. */
static void a_lost_secondary(void) {
    for (int i = 0; i < 20; i++) {
        size_t live = ht_mem_live();
        violations = completed = resets = 0;
        start(true, &usual);
        for (unsigned n = 0; n < 1500 + roll(500); n++)
            step();
        unsigned lost = 1 + roll(LINKS - 1);
        for (int j = 0; j < 2; j++) {
            struct port *p = j ? driver.port[lost] : kit.port[lost];
            drop_messages(p);
            if (roll(2))
                mux_link_closed(p->l, roll(2));
            mux_link_destroy(&p->l);
        }
        violations = 0; /* credit that was lost with the link cannot add up */
        for (unsigned n = 0; n < 500; n++) {
            deliver(kit.port[0], 100000);
            deliver(driver.port[0], 100000);
            pull(kit.port[0], 262144);
            pull(driver.port[0], 262144);
        }
        settle();
        CU_ASSERT_EQUAL(kit.overs + driver.overs, 0);
        CU_ASSERT_EQUAL(mux_session_links(kit.s), LINKS - 1);
        finish(live);
    }
}

static void ends(bool rude) {
    for (int i = 0; i < 400; i++) {
        size_t live = ht_mem_live();
        struct mux_config c = usual;
        c.caps = i % 4 == 3 ? WIRE_CAP_STREAM_RESUME : 0; /* then a lost link is no end */
        lossy = i % 4 == 3;
        violations = completed = resets = 0;
        start(i % 3 == 0, &c);
        for (unsigned n = roll(600); n > 0; n--)
            step();
        if (rude)
            chaos = true;
        else
            end_somehow(roll(2) ? &kit : &driver, false);
        for (unsigned n = 0; n < 400; n++)
            step();
        chaos = false;
        CU_ASSERT_EQUAL(violations, 0);
        CU_ASSERT(kit.overs <= 1 && driver.overs <= 1);
        lossy = false;
        finish(live);
    }
}

/* The end comes at any moment, from any side, and nothing is left or used afterwards. */
static void sudden_ends(void) { ends(false); }

/* The same out of a callback of a stream: what called it must not touch what is gone. */
static void ends_inside_callbacks(void) { ends(true); }

int main(int argc, char **argv) {
    static const struct tap_test tests[] = {
        {"two sessions with the usual windows exchange all streams", usual_windows},
        {"two sessions with small windows exchange all streams", small_windows},
        {"two sessions with very small windows exchange all streams", a_tight_session},
        {"two sessions with growing windows exchange all streams", growing_windows},
        {"two sessions exchange all streams with trailers", with_trailers},
        {"peers without capabilities exchange all streams", published_peers},
        {"two sessions exchange all streams over several links", several_links},
        {"a lost secondary costs its own streams only", a_lost_secondary},
        {"a session may end at any moment", sudden_ends},
        {"a session may end inside any callback", ends_inside_callbacks},
        {NULL, NULL},
    };
    seed = argc > 1 ? strtoull(argv[1], NULL, 10) : 20260101;
    if (argc > 2)
        steps_wanted = (unsigned)strtoul(argv[2], NULL, 10);
    make_noise();
    return tap_main("mux pair", tests);
}
