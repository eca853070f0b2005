/* The kit's own answers: which one, and in which form. */
#include "relay/visitor_rig.h"

static void refuse(uint32_t id, const char *reason) {
    uint8_t f[256];
    int n = wire_encode_reset(f, sizeof f, id, WIRE_CODE_REFUSED_STREAM, ht_slice_str(reason));
    CU_ASSERT_FATAL(n > 0);
    drv_frame(&d, f, (size_t)n);
    drv_send(&d);
}

/* Rule ANSWER-2. */
static void the_first_word_of_a_reason(void) {
    static const struct {
        bool own;
        const char *reason, *status, *error;
    } rows[] = {
        {true, "refused: cannot connect", "502 Bad Gateway", "origin-refused"},
        {true, "name-unknown: x", "502 Bad Gateway", "origin-unknown"},
        {true, "unreachable: x", "502 Bad Gateway", "origin-unreachable"},
        {true, "timeout: x", "504 Gateway Timeout", "origin-timeout"},
        {true, "tls-service: x", "502 Bad Gateway", "origin-tls"},
        {true, "tls-failed: x", "502 Bad Gateway", "origin-tls-failed"},
        {true, "cert-date: x", "502 Bad Gateway", "origin-cert-date"},
        {true, "cert-name: x", "502 Bad Gateway", "origin-cert-name"},
        {true, "cert-ca: x", "502 Bad Gateway", "origin-cert-ca"},
        {true, "closed: x", "502 Bad Gateway", "origin-closed"},
        {true, "bad-answer: x", "502 Bad Gateway", "origin-bad-answer"},
        {true, "busy: x", "503 Service Unavailable", "origin-busy"},
        {true, "too-many: x", "503 Service Unavailable", "driver-busy"},
        {true, "going-away: x", "503 Service Unavailable", "driver-leaves"},
        {true, "refused", "502 Bad Gateway", "bad-gateway"},
        {true, "REFUSED: x", "502 Bad Gateway", "bad-gateway"},
        {true, "refused : x", "502 Bad Gateway", "bad-gateway"},
        {true, ": x", "502 Bad Gateway", "bad-gateway"},
        {true, "", "502 Bad Gateway", "bad-gateway"},
        {false, "refused: cannot connect", "502 Bad Gateway", "bad-gateway"},
    };
    begin();
    struct visitor v = vis_connect(port);
    for (unsigned i = 0; i < HT_ARRAY_LEN(rows); i++) {
        char head[128], why[128];
        d.owner.own_peer = rows[i].own;
        vis_send(&v, GET);
        refuse(opened(i + 1)->id, rows[i].reason);
        snprintf(head, sizeof head, "HTTP/1.1 %s\r\n", rows[i].status);
        snprintf(why, sizeof why, "\r\nx-hoody-tunnel: error=%s\r\n\r\n", rows[i].error);
        UNTIL(vis_got(&v) && ht_buf_append(&v.rx, "", 1) == HT_OK);
        CU_ASSERT_EQUAL(strncmp((char *)ht_buf_head(&v.rx), head, strlen(head)), 0);
        CU_ASSERT_PTR_NOT_NULL(strstr((char *)ht_buf_head(&v.rx), why));
        CU_ASSERT_EQUAL(strstr((char *)ht_buf_head(&v.rx), "\r\nretry-after: 1\r\n") != NULL,
                        rows[i].status[0] == '5' && rows[i].status[2] == '3');
        ht_buf_consume(&v.rx, ht_buf_size(&v.rx));
    }
    leave(&v);
    end();
}

static const char *got(struct visitor *v, const char *request) {
    unsigned before = d.n_streams;
    ht_buf_consume(&v->rx, ht_buf_size(&v->rx));
    vis_send(v, request);
    refuse(opened(before + 1)->id, "refused: \"<script>\"");
    UNTIL(vis_got(v) && ht_buf_append(&v->rx, "", 1) == HT_OK);
    return (const char *)ht_buf_head(&v->rx);
}

#define ASK(accept) "GET / HTTP/1.1\r\nHost: a\r\nAccept: " accept "\r\n\r\n"

static void text_a_page_or_json(void) {
    static const struct {
        const char *request, *type;
    } rows[] = {
        {GET, "text/plain; charset=utf-8"},
        {ASK("*/*"), "text/plain; charset=utf-8"},
        {ASK("text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"), "text/html; charset=utf-8"},
        {ASK("application/json, text/plain, */*"), "application/json"},
        {ASK("application/problem+json"), "application/json"},
        {ASK("text/html;q=0.5, application/json;q=0.8"), "application/json"},
        {ASK("text/html ; q=0, text/plain"), "text/plain; charset=utf-8"},
        {ASK("image/*, TEXT/HTML;level=1;q=0.4"), "text/html; charset=utf-8"},
        {ASK(""), "text/plain; charset=utf-8"},
        {GET, "text/plain; charset=utf-8"}, /* nothing of the one before stays */
    };
    begin();
    struct visitor v = vis_connect(port);
    for (size_t i = 0; i < HT_ARRAY_LEN(rows); i++) {
        char type[128];
        const char *answer = got(&v, rows[i].request);
        snprintf(type, sizeof type, "\r\ncontent-type: %s\r\n", rows[i].type);
        CU_ASSERT_PTR_NOT_NULL(strstr(answer, type));
        CU_ASSERT_PTR_NULL(strstr(answer, "script"));
    }
    const char *page = got(&v, ASK("text/html"));
    CU_ASSERT_PTR_NOT_NULL(strstr(page, "<h1>502 Bad Gateway</h1>"));
    CU_ASSERT_PTR_NOT_NULL(strstr(page, WIRE_ANSWER_ORIGIN_REFUSED_BODY ".</p>"));
    CU_ASSERT_PTR_NOT_NULL(strstr(page, "default-src 'none'"));
    const char *json = strstr(got(&v, ASK("application/json")), "\r\n\r\n");
    CU_ASSERT_STRING_EQUAL(json + 4, "{\"error\":\"origin-refused\",\"status\":502,\"message\":\"" //
                           WIRE_ANSWER_ORIGIN_REFUSED_BODY "\"}\n");
    const char *head = got(&v, "HEAD / HTTP/1.1\r\nHost: a\r\nAccept: text/html\r\n\r\n");
    CU_ASSERT_STRING_EQUAL(strstr(head, "\r\n\r\n"), "\r\n\r\n");
    CU_ASSERT_PTR_NULL(strstr(head, "content-length: 0\r\n"));
    leave(&v);
    end();
}

/* No sentence may need escaping in JSON. */
static void sentences(void) {
    static const char *const all[] = {
#define BODY(word, name) WIRE_ANSWER_##name##_BODY,
        WIRE_ORIGIN_ANSWERS(BODY)
#undef BODY
    };
    for (size_t i = 0; i < HT_ARRAY_LEN(all); i++)
        CU_ASSERT_EQUAL(strcspn(all[i], "\"\\\n<>&"), strlen(all[i]));
}

int main(void) {
    static const struct tap_test tests[] = {
        {"the first word of a reason", the_first_word_of_a_reason},
        {"text, a page or JSON", text_a_page_or_json},
        {"each answer says why in a sentence", sentences},
        {NULL, NULL},
    };
    return tap_main("relay visitor, answers", tests);
}
