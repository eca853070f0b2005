/*
 * Two sessions with stream-resume under random schedules (pair.h), whose links are lost again and again: at any byte,
 * noticed by one end before the other, in the middle of a handshake or of what is sent again, with old HELLOs that
 * arrive late. No stream may notice, and all credit must add up in the end.
 *
 * Run with a number to repeat a seed, and with a second one to take more steps.
 */
#include "mux/pair.h"

#define ATTEMPTS 4

/* Connections in their handshake; the last one is the driver's own choice, and the others are ghosts. */
static struct port *attempt[LINKS][ATTEMPTS];
static unsigned cuts, half_cuts, ghosts, refused;

static bool is_up(const struct end *e, unsigned i) { return e->port[i]->l && !e->port[i]->closed; }

static void begin_attempt(unsigned i) {
    struct port **a = attempt[i];
    struct port *last = a[ATTEMPTS - 1];
    if (last) { /* the driver has given that one up; the kit may still read what was sent there */
        mux_link_destroy(&last->l);
        drop_messages(last->peer);
        ghosts++;
    }
    if (a[0]) {
        lose(a[0], false);
        lose(a[0]->peer, false);
    }
    memmove(a, a + 1, (ATTEMPTS - 1) * sizeof *a);
    struct port *k = connect(i);
    a[ATTEMPTS - 1] = k->peer;
    greet(k->peer);
}

/* The driver has the link that it wanted. */
static void look_at_attempts(unsigned i) {
    struct port *last = attempt[i][ATTEMPTS - 1];
    if (last && driver.port[i] == last)
        attempt[i][ATTEMPTS - 1] = NULL;
}

/* Somebody's socket of index `i` breaks; the other end may hear of it later. */
static void cut(unsigned i) {
    struct end *e = roll(2) ? &kit : &driver;
    struct port *p = e->port[i];
    if (!p->l)
        return;
    cuts++;
    const struct msg *m = p->peer->out.first;
    half_cuts += m && m->used > 0;
    struct port *other = p->peer;
    lose(p, false);
    if (roll(2))
        lose(other, false);
    else if (roll(2))
        drop_messages(p); /* what was sent last is lost, too */
}

/* Closes what mux wants closed. */
static void close_ports(struct end *e) {
    for (unsigned i = 0; i < links_wanted; i++)
        if (e->port[i]->closed && e->port[i]->l)
            lose(e->port[i], false);
}

/* The driver brings back what is lost. */
static void reconnect(unsigned i) {
    bool away = mux_session_is_away(driver.s);
    if (i == 0 ? !away : away || is_up(&driver, i))
        return;
    if (!attempt[i][ATTEMPTS - 1] || roll(8) == 0)
        begin_attempt(i);
}

static void handshakes(unsigned i) {
    static const size_t pieces[] = {1, 9, 30, 262144};
    for (unsigned j = 0; j < ATTEMPTS; j++) {
        struct port *d = attempt[i][j];
        bool ghost = j < ATTEMPTS - 1;
        if (!d || roll(ghost ? 100 : 2)) /* a ghost takes its time, and comes whole */
            continue;
        bool was_closed = d->peer->closed;
        pull(d, WIRE_LIMIT_MAX_MESSAGE);
        deliver(d, pieces[ghost ? 3 : roll(4)]);
        if (!ghost) {
            pull(d->peer, WIRE_LIMIT_MAX_MESSAGE);
            deliver(d->peer, pieces[roll(4)]);
        }
        refused += !was_closed && d->peer->closed;
        look_at_attempts(i);
    }
}

/* An end hears that the other one has closed, behind what that has sent. */
static void notice(unsigned i) {
    bool apart = kit.port[i]->peer != driver.port[i];
    for (int j = 0; j < 2; j++) {
        struct port *p = j ? driver.port[i] : kit.port[i];
        if (p->l && !p->peer->l && (apart || !p->peer->out.first))
            lose(p, false);
    }
}

static void after_cuts(void) {
    close_ports(&kit);
    close_ports(&driver);
    for (unsigned i = 0; i < links_wanted; i++) {
        if (roll(3) == 0)
            notice(i);
        reconnect(i);
        handshakes(i);
    }
}

static bool all_up(void) {
    for (unsigned i = 0; i < links_wanted; i++)
        if (!is_up(&kit, i) || !is_up(&driver, i) || kit.port[i]->peer != driver.port[i])
            return false;
    return true;
}

static void calm_down(void) {
    for (unsigned round = 0; round < 100000 && !all_up(); round++) {
        after_cuts();
        for (unsigned i = 0; i < links_wanted; i++)
            notice(i);
        pump();
    }
    for (unsigned i = 0; i < links_wanted && !all_up(); i++)
        printf("# link %u: kit %d%s, driver %d%s, %s\n", i, kit.port[i]->l != NULL,
               kit.port[i]->closed ? " closed" : "", driver.port[i]->l != NULL, driver.port[i]->closed ? " closed" : "",
               kit.port[i]->peer == driver.port[i] ? "joined" : "apart");
    CU_ASSERT_FATAL(all_up());
}

/* `rate`: a cut in so many steps. */
static void run(const char *name, bool v2, const struct mux_config *c, unsigned steps, unsigned rate) {
    size_t live = ht_mem_live();
    uint64_t began = seed;
    violations = completed = resets = cuts = half_cuts = ghosts = refused = 0;
    memset(attempt, 0, sizeof attempt);
    lossy = true;
    start(v2, c);
    CU_ASSERT(kit.s && driver.s);
    for (unsigned i = 0; i < steps && violations == 0; i++) {
        step();
        if (roll(rate) == 0)
            cut(roll(links_wanted));
        after_cuts();
        for (int j = 0; j < 2; j++)
            for (unsigned n = 0; n < LINKS; n++)
                if ((j ? &kit : &driver)->store[n].bytes > WIRE_LIMIT_MIN_REPLAY_BUFFER + MUX_KEPT_MORE + (512u << 10))
                    violations++;
    }
    calm_down();
    lossy = false;
    settle();
    CU_ASSERT_EQUAL(kit.overs + driver.overs, 0);
    CU_ASSERT_EQUAL(kit.given_up + driver.given_up, 0);
    CU_ASSERT_EQUAL(violations, 0);
    CU_ASSERT(completed > 20);
    printf("# %s: seed %llu, %u streams, %u ends in order, %u resets; %u cuts, %u of them in a message; away %u + %u "
           "times, %u + %u messages sent again, %u ghosts, %u refused\n",
           name, (unsigned long long)began, kit.n_sides, completed, resets, cuts, half_cuts, kit.aways, driver.aways,
           kit.replays, driver.replays, ghosts, refused);
    finish(live);
}

static struct mux_config resuming(void) {
    struct mux_config c = usual;
    c.caps = WIRE_CAP_STREAM_RESUME | WIRE_CAP_TRAILERS;
    c.resume_grace_ms = 100000000;
    return c;
}

static void one_link(void) {
    struct mux_config c = resuming();
    unsigned late = 0;
    for (int i = 0; i < 6; i++) {
        run("one link", false, &c, steps_wanted / 2, 30 + 200 * (unsigned)(i % 3));
        late += refused;
    }
    CU_ASSERT(late > 0); /* HELLOs that were too late to mean anything */
}

static void several_links(void) {
    struct mux_config c = resuming();
    for (int i = 0; i < 6; i++)
        run("several links", true, &c, steps_wanted / 2, 30 + 200 * (unsigned)(i % 3));
}

static void small_windows(void) {
    struct mux_config c = resuming();
    c.stream_window = 1000;
    c.session_window = 3000;
    c.session_buffer = 1000;
    for (int i = 0; i < 2; i++)
        run("small windows", i, &c, steps_wanted / 2, 100);
}

static void growing_windows(void) {
    struct mux_config c = resuming();
    c.caps |= WIRE_CAP_AUTO_WINDOW | WIRE_CAP_LARGE_WINDOW;
    c.max_window = 64u << 20;
    for (int i = 0; i < 2; i++)
        run("growing windows", i, &c, steps_wanted / 2, 200);
}

int main(int argc, char **argv) {
    static const struct tap_test tests[] = {
        {"no stream notices that its link is lost", one_link},
        {"nor when a session has several links", several_links},
        {"nor when windows are small", small_windows},
        {"nor when windows grow", growing_windows},
        {NULL, NULL},
    };
    seed = argc > 1 ? strtoull(argv[1], NULL, 10) : 20260701;
    if (argc > 2)
        steps_wanted = (unsigned)strtoul(argv[2], NULL, 10);
    make_noise();
    return tap_main("mux cuts", tests);
}
