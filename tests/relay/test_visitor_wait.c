/* Visitors who wait for room on a congested link: hardening case 29. */
#include "relay/visitor_priv.h"
#include "relay/visitor_rig.h"

#define BUSY ANSWER("503 Service Unavailable", "retry-after: 1\r\n" CLOSE, "18", "the tunnel is busy")
#define CROWD 40
#define LARGE 40000

static struct visitor crowd[CROWD];

static void ask(struct visitor *v, const char *path, size_t padding) {
    static char pad[LARGE + 1];
    char line[100];
    memset(pad, 'p', sizeof pad);
    pad[ht_min(padding, LARGE)] = '\0';
    snprintf(line, sizeof line, "GET %s HTTP/1.1\r\nHost: a\r\nX-Pad: ", path);
    vis_send(v, line);
    vis_send(v, pad);
    vis_send(v, "\r\n\r\n");
}

static unsigned waiting(void) {
    unsigned n = 0;
    HT_LIST_FOR (it, &rig.table->waiting)
        n++;
    return n;
}

static bool waits(const struct visitor *v) {
    HT_LIST_FOR (it, &rig.table->waiting) {
        const struct relay_waiter *w = HT_LIST_ENTRY(it, struct relay_waiter, all);
        if (strcmp(ht_container_of(w, struct visitor_http, waiter)->peer, v->addr) == 0)
            return true;
    }
    return false;
}

/* Nobody reads the link, and a crowd from one address has sent more than it holds. `opened`: how many got a stream. */
static unsigned congest(void) {
    begin();
    d.deaf = true;
    for (unsigned i = 0; i < CROWD; i++) {
        crowd[i] = vis_connect(port);
        char path[16];
        snprintf(path, sizeof path, "/crowd/%u", i);
        ask(&crowd[i], path, LARGE);
    }
    UNTIL(rig.metrics.streams_total[HT_METRIC_MODE_EXPOSE] + waiting() == CROWD);
    unsigned n = (unsigned)rig.metrics.streams_total[HT_METRIC_MODE_EXPOSE];
    CU_ASSERT_FATAL(n > 2 && n < CROWD / 2);
    return n;
}

static void listen_again(void) {
    d.deaf = false;
    io_task_add(rig.loop, &d.pump);
}

static void answer(const struct played_stream *st) {
    drv_head(&d, st->id, 200, "content-length: 1");
    drv_text(&d, st->id, "x");
    drv_eof(&d, st->id);
    drv_send(&d);
}

static void dismiss(void) {
    for (unsigned i = 0; i < CROWD; i++)
        leave_soon(&crowd[i]);
    UNTIL(relay_count_visitors(rig.table) == 0);
    end();
}

static void test_room(void) {
    congest();
    UNTIL(io_loop_timeout_ms(rig.loop) > 20 || io_loop_timeout_ms(rig.loop) < 0); /* nobody asks again and again */
    listen_again();
    UNTIL(d.n_streams == CROWD);
    for (unsigned i = 0; i < CROWD; i++) {
        const char *target = strstr(d.streams[i].open, "/crowd/");
        CU_ASSERT_PTR_NOT_NULL_FATAL(target);
        answer(&d.streams[i]);
        vis_expect(&crowd[atoi(target + strlen("/crowd/"))], OK_X);
    }
    dismiss();
}

/* Those who left are gone at once, and nothing of them goes to the driver. */
static void visitors_who_left_open_no_streams(void) {
    unsigned n = congest();
    for (unsigned i = 0; i < CROWD; i++)
        leave_soon(&crowd[i]);
    UNTIL(relay_count_visitors(rig.table) == 0);
    CU_ASSERT_EQUAL(rig.fds.used, 1);
    listen_again();
    UNTIL(mux_session_streams(d.s) == 0 && d.n_streams == n);
    CU_ASSERT_EQUAL(d.n_streams, n);
    CU_ASSERT_EQUAL(rig.metrics.streams_total[HT_METRIC_MODE_EXPOSE], n);
    end();
}

static void test_half_closed(void) {
    unsigned n = congest();
    struct visitor *v = crowd;
    while (!waits(v))
        v++;
    shutdown(v->fd, SHUT_WR);
    vis_expect(v, BUSY);
    vis_expect_end(v, false);
    listen_again();
    UNTIL(d.n_streams == CROWD - 1);
    CU_ASSERT(n < CROWD - 1);
    dismiss();
}

/* However many wait from one address, another one's turn comes next. */
static void test_fair(void) {
    unsigned n = congest();
    struct visitor other = vis_connect_from("127.0.0.2", "127.0.0.1", port);
    ask(&other, "/other", 1);
    ask(&other, "/again", 1); /* pipelined */
    UNTIL(waiting() == CROWD - n + 1);
    listen_again();
    UNTIL(d.n_streams > n + 1);
    CU_ASSERT(strstr(d.streams[n].open, "/other") || strstr(d.streams[n + 1].open, "/other"));
    UNTIL(d.n_streams == CROWD + 1);
    for (unsigned i = n; i < n + 2; i++)
        if (strstr(d.streams[i].open, "/other"))
            answer(&d.streams[i]);
    vis_expect(&other, OK_X);
    UNTIL(d.n_streams == CROWD + 2);
    answer(drv_last(&d));
    vis_expect(&other, OK_X);
    leave_soon(&other);
    dismiss();
}

/* The rest of a request waits with its head. */
static void test_body(void) {
    unsigned n = congest();
    struct visitor v = vis_connect_from("127.0.0.2", "127.0.0.1", port);
    vis_send(&v, POST "Content-Length: 10\r\n\r\n01234");
    UNTIL(waiting() == CROWD - n + 1);
    vis_send(&v, "56789");
    listen_again();
    UNTIL(d.n_streams == CROWD + 1);
    struct played_stream *st = NULL;
    for (unsigned i = 0; i < d.n_streams; i++)
        if (strstr(d.streams[i].open, "\"POST\""))
            st = &d.streams[i];
    CU_ASSERT_PTR_NOT_NULL_FATAL(st);
    UNTIL(st->eofs == 1);
    CU_ASSERT(ht_buf_size(&st->body) == 10 && memcmp(ht_buf_head(&st->body), "0123456789", 10) == 0);
    answer(st);
    vis_expect(&v, OK_X);
    leave_soon(&v);
    dismiss();
}

static void a_takeover_takes_the_waiting_visitors_along(void) {
    struct driver other;
    unsigned n = congest();
    drv_start(&other);
    struct relay_bound bound;
    enum wire_bind_error code;
    struct wire_bind bind = {
        .kind = WIRE_KIND_HTTP, .mode = WIRE_MODE_EXPOSE, .container_port = port, .takeover = true};
    CU_ASSERT_EQUAL_FATAL(rig_bind(&other, bind, &bound, &code), 0);
    UNTIL(other.n_streams == CROWD - n);
    CU_ASSERT(ht_list_empty(&d.owner.turns));
    for (unsigned i = 0; i < CROWD; i++)
        leave_soon(&crowd[i]);
    UNTIL(relay_count_visitors(rig.table) == 0);
    drv_stop(&other);
    listen_again();
    UNTIL(mux_session_streams(d.s) == 0);
    end();
}

static void waiting_visitors_get_503_when_the_driver_goes(void) {
    congest();
    bool waited[CROWD];
    for (unsigned i = 0; i < CROWD; i++)
        waited[i] = waits(&crowd[i]);
    drv_drop(&d);
    for (unsigned i = 0; i < CROWD; i++)
        if (waited[i])
            vis_expect(&crowd[i],
                       ANSWER("503 Service Unavailable", "retry-after: 5\r\n", "22", "tunnel is reconnecting"));
    for (unsigned i = 0; i < CROWD; i++)
        leave_soon(&crowd[i]);
    UNTIL(relay_count_visitors(rig.table) == 0);
    drv_stop(&d);
    rig_stop();
}

static void waiting_visitors_go_with_the_binding(void) {
    congest();
    CU_ASSERT_EQUAL(relay_unbind(rig.table, &d.owner, 1), 0);
    CU_ASSERT_EQUAL(relay_count_visitors(rig.table), 0);
    CU_ASSERT_EQUAL(waiting(), 0);
    for (unsigned i = 0; i < CROWD; i++)
        vis_close(&crowd[i]);
    listen_again();
    UNTIL(mux_session_streams(d.s) == 0);
    end();
}

int main(void) {
    static const struct tap_test tests[] = {
        {"a waiting visitor goes on when there is room", test_room},
        {"visitors who left open no streams", visitors_who_left_open_no_streams},
        {"a half-closed visitor goes on waiting", test_half_closed},
        {"waiting addresses take turns", test_fair},
        {"a body waits with its head", test_body},
        {"a takeover takes the waiting visitors along", a_takeover_takes_the_waiting_visitors_along},
        {"waiting visitors get 503 when the driver goes", waiting_visitors_get_503_when_the_driver_goes},
        {"waiting visitors go with the binding", waiting_visitors_go_with_the_binding},
        {NULL, NULL},
    };
    return tap_main("relay visitors that wait", tests);
}
