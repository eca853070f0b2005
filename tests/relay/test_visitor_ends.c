/*
 * Visitors whose connection outlives their stream (hardening case 27): they still send their request, and have not read
 * the whole of their answer.
 */
#include "relay/visitor_rig.h"

#define INTERIM 30
#define PADDING 7000

/* A visitor on a path with small segments and buffers: little of its answer fits the kernel. */
static struct visitor vis_connect_narrow(void) {
    struct visitor v = {.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    struct io_addr a;
    CU_ASSERT_FATAL(v.fd >= 0);
    CU_ASSERT_EQUAL(setsockopt(v.fd, IPPROTO_TCP, TCP_MAXSEG, &(int){536}, sizeof(int)), 0);
    CU_ASSERT_EQUAL(setsockopt(v.fd, SOL_SOCKET, SO_RCVBUF, &(int){4096}, sizeof(int)), 0);
    CU_ASSERT_EQUAL_FATAL(io_addr_parse(&a, "127.0.0.1", port), 0);
    CU_ASSERT_EQUAL_FATAL(connect(v.fd, (struct sockaddr *)&a.ss, a.len), 0);
    CU_ASSERT_EQUAL(fcntl(v.fd, F_SETFL, O_NONBLOCK), 0);
    return v;
}

/* More than the kernel takes for such a visitor, without needing any credit. */
static void fill(uint32_t id) {
    static char fields[PADDING];
    memset(fields, 'v', sizeof fields);
    memcpy(fields, "link: ", 6);
    fields[sizeof fields - 1] = '\0';
    for (int i = 0; i < INTERIM; i++)
        drv_head_final(&d, id, 103, fields, false);
}

static void turns(void) {
    for (int i = 0; i < 20; i++)
        ready_turn();
}

/* A part of an upload is there, its answer is whole and stuck. */
static struct visitor stuck_upload(uint16_t status, const char *fields, const char *body) {
    struct visitor v = vis_connect_narrow();
    vis_send(&v, POST "Content-Length: 100000\r\n\r\npart");
    struct played_stream *st = opened(1);
    UNTIL(ht_buf_size(&st->body) == 4);
    fill(st->id);
    drv_head(&d, st->id, status, fields);
    if (body)
        drv_text(&d, st->id, body);
    return v;
}

/* What it sends now is nobody's; the answer arrives whole all the same, and then the end. */
static void expect_whole_answer(struct visitor *v, const char *end_of_it) {
    vis_send(v, "and the rest of its request");
    turns();
    vis_send(v, "in pieces");
    turns();
    size_t n = strlen(end_of_it);
    UNTIL(vis_over(v));
    CU_ASSERT_FALSE(v->cut);
    CU_ASSERT_FATAL(ht_buf_size(&v->rx) > n + (size_t)INTERIM * (PADDING - 6));
    const char *end_of_rx = (const char *)ht_buf_head(&v->rx) + ht_buf_size(&v->rx);
    CU_ASSERT_EQUAL(memcmp(end_of_rx - n, end_of_it, n), 0);
    leave(v);
}

static void take_over(struct driver *by) {
    struct relay_bound bound;
    enum wire_bind_error code;
    struct wire_bind bind = {
        .kind = WIRE_KIND_HTTP, .mode = WIRE_MODE_EXPOSE, .container_port = port, .takeover = true};
    CU_ASSERT_EQUAL_FATAL(rig_bind(by, bind, &bound, &code), 0);
}

#define EARLY "HTTP/1.1 413 Content Too Large\r\ncontent-length: 3\r\nconnection: close\r\n\r\nbig"

static void a_takeover_leaves_an_early_answer_whole(void) {
    struct driver other;
    begin();
    drv_start(&other);
    struct visitor v = stuck_upload(413, "content-length: 3", "big");
    drv_send(&d);
    turns();
    take_over(&other);
    UNTIL(opened(1)->reset == WIRE_CODE_BIND_TAKEOVER);
    expect_whole_answer(&v, EARLY);
    drv_stop(&other);
    end();
}

/* The answer is still borrowed from the message that a takeover by the same session came in. */
static void test_takeover_behind_the_answer(void) {
    begin();
    struct visitor v = stuck_upload(413, "content-length: 3", "big");
    CU_ASSERT_EQUAL(mux_link_message(d.l, ht_buf_head(&d.msg), ht_buf_size(&d.msg), true),
                    (ssize_t)ht_buf_size(&d.msg));
    take_over(&d);
    memset(ht_buf_head(&d.msg), 'X', ht_buf_size(&d.msg));
    d.msg.off = d.msg.len = 0;
    mux_link_fed(d.l);
    expect_whole_answer(&v, EARLY);
    end();
}

static void test_takeover_of_a_resting_answer(void) {
    struct driver other;
    begin();
    drv_start(&other);
    struct visitor v = vis_connect_narrow();
    vis_send(&v, GET GET); /* its next request belongs to the new owner */
    fill(opened(1)->id);
    drv_head(&d, opened(1)->id, 200, "content-length: 3");
    drv_text(&d, opened(1)->id, "old");
    drv_send(&d);
    turns();
    take_over(&other);
    turns();
    UNTIL(vis_got(&v) > (size_t)INTERIM * (PADDING - 6) && other.n_streams == 1);
    drv_head(&other, other.streams[0].id, 200, "content-length: 3");
    drv_text(&other, other.streams[0].id, "new");
    drv_eof(&other, other.streams[0].id);
    drv_send(&other);
    static const char both[] = "\r\n\r\noldHTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nnew";
    UNTIL(vis_got(&v) > sizeof both && memcmp(v.rx.data + v.rx.len - (sizeof both - 1), both, sizeof both - 1) == 0);
    leave(&v);
    drv_stop(&other);
    end();
}

static void test_data_after_204(void) {
    begin();
    struct visitor v = stuck_upload(204, NULL, "none");
    drv_send(&d);
    UNTIL(opened(1)->reset == WIRE_CODE_PROTOCOL_ERROR);
    expect_whole_answer(&v, "HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n");
    end();
}

static void test_reset_behind_the_answer(void) {
    begin();
    struct visitor v = stuck_upload(413, "content-length: 3", "big");
    drv_reset(&d, opened(1)->id, WIRE_CODE_CANCEL);
    drv_send(&d);
    expect_whole_answer(&v, EARLY);
    end();
}

/* The visitor's own end, in order and with RST, when its stream is gone. */
static void a_visitor_may_leave_when_its_stream_is_gone(void) {
    begin();
    struct visitor v = stuck_upload(413, "content-length: 3", "big");
    drv_reset(&d, opened(1)->id, WIRE_CODE_CANCEL);
    drv_send(&d);
    turns();
    shutdown(v.fd, SHUT_WR);
    turns();
    leave(&v);
    end();
}

static void the_binding_may_go_when_the_stream_is_gone(void) {
    begin();
    struct visitor v = stuck_upload(413, "content-length: 3", "big");
    drv_reset(&d, opened(1)->id, WIRE_CODE_CANCEL);
    drv_send(&d);
    turns();
    CU_ASSERT_EQUAL(relay_unbind(rig.table, &d.owner, 1), 0);
    UNTIL(vis_over(&v));
    leave(&v);
    end();
}

static void the_end_of_the_session_leaves_an_early_answer_whole(void) {
    begin();
    struct visitor v = stuck_upload(413, "content-length: 3", "big");
    drv_send(&d);
    turns();
    d.owner.mux = NULL;
    mux_session_destroy(&d.s);
    expect_whole_answer(&v, EARLY);
    CU_ASSERT_EQUAL(relay_count_visitors(rig.table), 0);
    drv_stop(&d);
    rig_stop();
}

int main(void) {
    static const struct tap_test tests[] = {
        {"a takeover leaves an early answer whole", a_takeover_leaves_an_early_answer_whole},
        {"a takeover in the message of the answer", test_takeover_behind_the_answer},
        {"a takeover between two requests", test_takeover_of_a_resting_answer},
        {"DATA behind a 204 is not passed on", test_data_after_204},
        {"a RESET behind the answer changes nothing", test_reset_behind_the_answer},
        {"a visitor may leave when its stream is gone", a_visitor_may_leave_when_its_stream_is_gone},
        {"the binding may go when the stream is gone", the_binding_may_go_when_the_stream_is_gone},
        {"the end of the session leaves an early answer whole", the_end_of_the_session_leaves_an_early_answer_whole},
        {NULL, NULL},
    };
    return tap_main("relay visitors without a stream", tests);
}
