/* What stands around an answer: the reason beside its status (rule HTTP-16), the fields behind a body (TRAIL-2). */
#include "relay/origin_rig.h"

static void reason(const char *line, const char *want) {
    char answer[2000];
    rig_go();
    struct call *c = call_get("/");
    struct service_conn *s = service_wait(0, "\r\n\r\n");
    snprintf(answer, sizeof answer, "%s\r\nContent-Length: 0\r\n\r\n", line);
    service_says(s, answer);
    UNTIL(c->closes);
    CU_ASSERT_STRING_EQUAL(c->reason_said, want);
    rig_stop();
}

static void a_reason_of_its_own_is_sent(void) {
    char long_line[700];
    snprintf(long_line, sizeof long_line, "HTTP/1.1 200 %0600d", 0);
    reason("HTTP/1.1 200 Fine, thanks", "Fine, thanks");
    reason("HTTP/1.1 299 Made up", "Made up");
    reason("HTTP/1.1 200 a\001b", "a b");
    reason("HTTP/1.1 200 OK", "-");
    reason("HTTP/1.1 200 ", "-");
    reason("HTTP/1.1 200", "-");
    reason(long_line, "-");
}

static struct call *answered_with(const char *trailers) {
    char answer[2000];
    struct call *c = call_get("/");
    struct service_conn *s = service_wait(0, "\r\n\r\n");
    snprintf(answer, sizeof answer,
             "HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n%s\r\n",
             trailers);
    for (const char *p = answer; *p; p++) /* in the smallest pieces */
        service_bytes(s, p, 1);
    UNTIL(c->closes);
    CU_ASSERT_EQUAL(c->reset, -1);
    CU_ASSERT_STRING_EQUAL(call_body(c), "abc");
    CU_ASSERT_EQUAL(relay_target_idle(rig.target), 1);
    return c;
}

static void fields_behind_an_answer(void) {
    rig_caps = WIRE_CAP_TRAILERS;
    rig_go();
    struct call *c = answered_with("X-Sum: 1\r\nX-More:  a:b \n");
    CU_ASSERT_STRING_EQUAL(c->head, "200 Trailer: X-Sum");
    CU_ASSERT_STRING_EQUAL(c->trailers, "X-Sum: 1, X-More: a:b");
    rig_stop();
    rig_go();
    c = answered_with("Content-Length: 9\r\nTRANSFER-ENCODING: chunked\r\nHost: evil\r\nSet-Cookie: a\r\nX-Ok: 1\r\n");
    CU_ASSERT_STRING_EQUAL(c->trailers, "X-Ok: 1");
    rig_stop();
    rig_caps = 0;
}

static void without_an_agreement_they_are_dropped(void) {
    rig_go();
    struct call *c = answered_with("X-Sum: 1\r\n");
    CU_ASSERT_STRING_EQUAL(c->head, "200");
    CU_ASSERT_STRING_EQUAL(c->trailers, "");
    rig_stop();
}

static void upload(const struct wire_header *framing, const struct wire_trailers *t, const char *want) {
    rig_caps = WIRE_CAP_TRAILERS;
    rig_go();
    struct call *c = call_http("POST", "/", framing, 1, "abc", false);
    struct service_conn *s = service_wait(0, "abc");
    CU_ASSERT_EQUAL(mux_stream_trailers(c->st, t), 0);
    call_sends(c, "", 0, true);
    if (want) {
        service_wait(0, want);
        service_says(s, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        UNTIL(c->closes);
        CU_ASSERT_EQUAL(c->reset, -1);
        CU_ASSERT_EQUAL(relay_target_idle(rig.target), 1);
    } else {
        UNTIL(c->closes);
        CU_ASSERT_EQUAL(c->reset, WIRE_CODE_PROTOCOL_ERROR);
    }
    rig_stop();
    rig_caps = 0;
}

static void fields_behind_a_request(void) {
    const struct wire_header chunked = H("transfer-encoding", "chunked"), length = H("content-length", "3");
    const struct wire_header good[] = {H("x-sum", "1"), H("x-more", "a b")},
                             mixed[] = {H("content-length", "9"), H("Host", "evil"), H("x-ok", "1"),
                                        H("transfer_encoding", "chunked"), H("authorization", "x")},
                             bad[] = {H("x-sum", "1\r\nx: y")};
    upload(&chunked, &(struct wire_trailers){good, 2}, "3\r\nabc\r\n0\r\nx-sum: 1\r\nx-more: a b\r\n\r\n");
    upload(&chunked, &(struct wire_trailers){mixed, 5}, "3\r\nabc\r\n0\r\nx-ok: 1\r\n\r\n");
    upload(&length, &(struct wire_trailers){good, 2}, "abc");
    upload(&chunked, &(struct wire_trailers){bad, 1}, NULL);
}

/* Rule TRAIL-3. */
static void te(unsigned caps, const char *value, const char *want) {
    rig_caps = caps;
    rig_go();
    const struct wire_header fields[] = {H("host", "a"), {{"te", 2}, ht_slice_str(value)}, H("x-one", "1")};
    call_http("GET", "/", fields, 3, "", true);
    CU_ASSERT_STRING_EQUAL(service_heard(service_wait(0, "\r\n\r\n")), want);
    rig_stop();
    rig_caps = 0;
}

static void te_is_forwarded(void) {
    const char *with = "GET / HTTP/1.1\r\nhost: a\r\nx-one: 1\r\nte: trailers\r\nconnection: te\r\n\r\n";
    const char *without = "GET / HTTP/1.1\r\nhost: a\r\nx-one: 1\r\n\r\n";
    te(WIRE_CAP_TRAILERS, "trailers", with);
    te(WIRE_CAP_TRAILERS, "deflate, trailers", with);
    te(WIRE_CAP_TRAILERS, "gzip", without);
    te(0, "trailers", without);
}

int main(void) {
    static const struct tap_test tests[] = {
        {"a reason of its own is sent", a_reason_of_its_own_is_sent},
        {"trailers of an answer reach the stream", fields_behind_an_answer},
        {"trailers without the capability are dropped", without_an_agreement_they_are_dropped},
        {"trailers of a request reach the service", fields_behind_a_request},
        {"TE is passed on when it asks for trailers", te_is_forwarded},
        {NULL, NULL},
    };
    return tap_main("origin: reasons and trailers", tests);
}
