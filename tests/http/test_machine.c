/* The grammar alone: a recorded list of events is compared with the expected one, line by line. */
#include "feed.h"
#include "http/machine_priv.h"

struct record {
    const char *buf;
    char text[2000];
    size_t n;
    int stop_after; /* events; negative: never */
};

static void note(struct record *r, const char *what, struct http_span s) {
    r->n += (size_t)snprintf(r->text + r->n, sizeof r->text - r->n, "%s<%.*s>", what, (int)s.len, r->buf + s.off);
}

static bool sink(void *ctx, enum http_event ev, const struct http_machine *m) {
    struct record *r = ctx;
    switch (ev) {
    case HTTP_EV_REQUEST_LINE:
        note(r, "method", m->a);
        note(r, " target", m->b);
        r->n += (size_t)snprintf(r->text + r->n, sizeof r->text - r->n, " version %u\n", m->version);
        break;
    case HTTP_EV_STATUS_LINE:
        r->n += (size_t)snprintf(r->text + r->n, sizeof r->text - r->n, "version %u status %u", m->version, m->status);
        note(r, " reason", m->a);
        r->n += (size_t)snprintf(r->text + r->n, sizeof r->text - r->n, "\n");
        break;
    case HTTP_EV_FIELD:
        note(r, "field", m->a);
        note(r, "", m->b);
        r->n += (size_t)snprintf(r->text + r->n, sizeof r->text - r->n, m->dirty ? " dirty\n" : "\n");
        break;
    case HTTP_EV_FOLD:
        note(r, "fold", m->b);
        r->n += (size_t)snprintf(r->text + r->n, sizeof r->text - r->n, m->dirty ? " dirty\n" : "\n");
        break;
    case HTTP_EV_END:
        r->n += (size_t)snprintf(r->text + r->n, sizeof r->text - r->n, "end\n");
        break;
    }
    return r->stop_after < 0 || r->stop_after-- > 0;
}

struct replay {
    enum http_kind kind;
    int stop_after;
    const char *in;
    const char *events;
    enum http_result result;
    uint32_t pos; /* bytes looked at; 0: not checked */
};

static const struct replay replays[] = {
    {HTTP_REQUEST, -1, "GET / HTTP/1.1\r\nHost: a\r\n\r\nGET",
     "method<GET> target</> version 11\nfield<Host><a>\nend\n", HTTP_DONE, 27},
    {HTTP_REQUEST, -1, "\r\nM-SEARCH * HTTP/1.0\r\n\r\n", "method<M-SEARCH> target<*> version 10\nend\n", HTTP_DONE,
     25},
    {HTTP_REQUEST, -1, "\r\n\r\n\r\nGET / HTTP/1.0\r\n\r\n", "method<GET> target</> version 10\nend\n", HTTP_DONE, 24},
    {HTTP_REQUEST, -1, "GET / HTTP/7.3\r\n\r\n", "method<GET> target</> version 73\nend\n", HTTP_DONE, 18},
    {HTTP_REQUEST, -1, "GET / HTTP/1.1\r\na:\r\nb: \r\nc:d\r\ne: \t f \t \r\ng:  h  i \r\n\r\n",
     "method<GET> target</> version 11\nfield<a><>\nfield<b><>\nfield<c><d>\nfield<e><f>\nfield<g><h  i>\nend\n",
     HTTP_DONE, 54},
    {HTTP_REQUEST, -1, "GET / HTTP/1.1\r\na::\r\nb: :c:\r\n\r\n",
     "method<GET> target</> version 11\nfield<a><:>\nfield<b><:c:>\nend\n", HTTP_DONE, 31},
    {HTTP_REQUEST, -1, "GET /a?b=c&d HTTP/1.1\r\nHost: a", "method<GET> target</a?b=c&d> version 11\n", HTTP_MORE, 30},
    {HTTP_REQUEST, -1, "GET / HTTP/1.1\r\na: b\r", "method<GET> target</> version 11\n", HTTP_MORE, 21},
    {HTTP_REQUEST, -1, "", "", HTTP_MORE, 0},
    {HTTP_REQUEST, -1, "\r", "", HTTP_MORE, 1},
    {HTTP_REQUEST, 0, "GET / HTTP/1.1\r\na: b\r\n\r\n", "method<GET> target</> version 11\n", HTTP_STOPPED, 16},
    {HTTP_REQUEST, 1, "GET / HTTP/1.1\r\na: b\r\n\r\n", "method<GET> target</> version 11\nfield<a><b>\n", HTTP_STOPPED,
     22},
    {HTTP_REQUEST, 2, "GET / HTTP/1.1\r\na: b\r\n\r\n", "method<GET> target</> version 11\nfield<a><b>\nend\n",
     HTTP_STOPPED, 24},
    {HTTP_REQUEST, -1, "\n", "", HTTP_BAD_METHOD, 0},
    {HTTP_REQUEST, -1, "\r\r", "", HTTP_BAD_LINE_END, 0},
    {HTTP_REQUEST, -1, "G(", "", HTTP_BAD_METHOD, 0},
    {HTTP_REQUEST, -1, "GET /#", "", HTTP_BAD_TARGET, 0},
    {HTTP_REQUEST, -1, "GET /\r\n", "", HTTP_BAD_VERSION, 0},
    {HTTP_REQUEST, -1, "GET / HTTP/1.x", "", HTTP_BAD_VERSION, 0},
    {HTTP_REQUEST, -1, "GET / HTTP/1.1\n", "", HTTP_BAD_VERSION, 0},
    {HTTP_REQUEST, -1, "GET / HTTP/1.1\rx", "", HTTP_BAD_LINE_END, 0},
    {HTTP_REQUEST, -1, "GET / HTTP/1.1\r\n x", "method<GET> target</> version 11\n", HTTP_FOLDED, 0},
    {HTTP_REQUEST, -1, "GET / HTTP/1.1\r\na: b\r\n\tc", "method<GET> target</> version 11\nfield<a><b>\n", HTTP_FOLDED,
     0},
    {HTTP_REQUEST, -1, "GET / HTTP/1.1\r\na : b", "method<GET> target</> version 11\n", HTTP_BAD_NAME, 0},
    {HTTP_REQUEST, -1, "GET / HTTP/1.1\r\n: b", "method<GET> target</> version 11\n", HTTP_BAD_NAME, 0},
    {HTTP_REQUEST, -1, "GET / HTTP/1.1\r\na\r\n", "method<GET> target</> version 11\n", HTTP_BAD_NAME, 0},
    {HTTP_REQUEST, -1, "GET / HTTP/1.1\r\n\n", "method<GET> target</> version 11\n", HTTP_BAD_LINE_END, 0},
    {HTTP_REQUEST, -1, "GET / HTTP/1.1\r\na: b\n", "method<GET> target</> version 11\n", HTTP_BAD_LINE_END, 0},
    {HTTP_REQUEST, -1, "GET / HTTP/1.1\r\na: b\rc", "method<GET> target</> version 11\n", HTTP_BAD_LINE_END, 0},
    {HTTP_REQUEST, -1, "GET / HTTP/1.1\r\na: \001", "method<GET> target</> version 11\n", HTTP_BAD_VALUE, 0},
    {HTTP_REQUEST, -1, "GET / HTTP/1.1\r\na:\177", "method<GET> target</> version 11\n", HTTP_BAD_VALUE, 0},
    {HTTP_REQUEST, -1, "GET /01234567890123456789012345678901 HTTP/1.1", "", HTTP_LONG_TARGET, 0},
    {HTTP_RESPONSE, -1, "HTTP/1.1 200 OK\r\na: b\r\n\r\nbody", "version 11 status 200 reason<OK>\nfield<a><b>\nend\n",
     HTTP_DONE, 25},
    {HTTP_RESPONSE, -1, "HTTP/1.1 200\r\n\r\n", "version 11 status 200 reason<>\nend\n", HTTP_DONE, 16},
    {HTTP_RESPONSE, -1, "HTTP/1.0 404 \r\n\r\n", "version 10 status 404 reason<>\nend\n", HTTP_DONE, 17},
    {HTTP_RESPONSE, -1, "HTTP/1.1 500 It\tis  br\303\266ken\r\n\r\n",
     "version 11 status 500 reason<It\tis  br\303\266ken>\nend\n", HTTP_DONE, 31},
    {HTTP_RESPONSE, -1, "HTTP/1.1 999 \r\n\r\n", "version 11 status 999 reason<>\nend\n", HTTP_DONE, 17},
    {HTTP_RESPONSE, -1, "\r\nHTTP/1.1 200 OK", "", HTTP_BAD_VERSION, 0},
    {HTTP_RESPONSE, -1, "HTTP/1.1 20 OK", "", HTTP_BAD_STATUS, 0},
    {HTTP_RESPONSE, -1, "HTTP/1.1 2000 OK", "", HTTP_BAD_STATUS, 0},
    {HTTP_RESPONSE, -1, "HTTP/1.1  200 OK", "", HTTP_BAD_STATUS, 0},
    {HTTP_RESPONSE, -1, "HTTP/1.1 200 O\001", "", HTTP_BAD_REASON, 0},
    {HTTP_RESPONSE, -1, "HTTP/1.1 200 OK\n", "", HTTP_BAD_LINE_END, 0},
    {HTTP_LOOSE_RESPONSE, -1, "HTTP/1.1 200 OK\r\na: b\r\n\r\nbody",
     "version 11 status 200 reason<OK>\nfield<a><b>\nend\n", HTTP_DONE, 25},
    {HTTP_LOOSE_RESPONSE, -1, "\r\n\nHTTP/2.0 \t 999\ta \001 \na \t: b\n c\r\n\td\001\n \r\ne:\002\nf:g\n\nbody",
     "version 20 status 999 reason<a \001>\nfield<a><b>\nfold<c>\nfold<d\001> dirty\nfold<>\nfield<e><\002> dirty\n"
     "field<f><g>\nend\n",
     HTTP_DONE, 50},
    {HTTP_LOOSE_RESPONSE, -1, "HTTP/1.1 200\n\n", "version 11 status 200 reason<>\nend\n", HTTP_DONE, 14},
    {HTTP_LOOSE_RESPONSE, -1, "HTTP/1.1 200 OK\rx", "", HTTP_BAD_LINE_END, 0},
    {HTTP_LOOSE_RESPONSE, -1, "\r\rHTTP", "", HTTP_BAD_LINE_END, 0},
    {HTTP_LOOSE_RESPONSE, -1, " HTTP", "", HTTP_BAD_VERSION, 0},
    {HTTP_LOOSE_RESPONSE, -1, "HTTP/1.1 20 OK", "", HTTP_BAD_STATUS, 0},
    {HTTP_LOOSE_RESPONSE, -1, "HTTP/1.1 2000 OK", "", HTTP_BAD_STATUS, 0},
    {HTTP_LOOSE_RESPONSE, -1, "HTTP/1.1 200\na\n", "version 11 status 200 reason<>\n", HTTP_BAD_NAME, 0},
    {HTTP_LOOSE_RESPONSE, -1, "HTTP/1.1 200\na b: c\n", "version 11 status 200 reason<>\n", HTTP_BAD_NAME, 0},
    {HTTP_LOOSE_RESPONSE, -1, "HTTP/1.1 200\na: b\rc: d\n", "version 11 status 200 reason<>\n", HTTP_BAD_LINE_END, 0},
};

/* Feeds the first `cut` bytes, then all; both times at another address. */
static bool replays_with_cut(const struct replay *t, size_t cut) {
    size_t n = strlen(t->in);
    struct record r = {.stop_after = t->stop_after};
    struct http_machine m;
    http_machine_begin(&m, t->kind, 32);
    enum http_result result = HTTP_MORE;
    size_t ends[] = {cut, n};
    for (size_t i = 0; i < 2 && result == HTTP_MORE; i++) {
        char *copy = malloc(ends[i] + 1);
        if (!copy)
            abort();
        memcpy(copy, t->in, ends[i]);
        r.buf = copy;
        result = http_machine_run(&m, copy, (uint32_t)ends[i], sink, &r);
        free(copy);
    }
    bool good = result == t->result && strcmp(r.text, t->events) == 0 && (t->pos == 0 || m.pos == t->pos);
    if (!good) {
        show_input("not replayed as expected", t->in, n);
        printf("# cut %zu: result %d, expected %d; looked at %u; events:\n", cut, result, t->result, m.pos);
        show_input("events", r.text, r.n);
    }
    return good;
}

static void events_come_as_listed(void) {
    for (size_t i = 0; i < HT_ARRAY_LEN(replays); i++) {
        bool good = true;
        for (size_t cut = 0; good && cut <= strlen(replays[i].in); cut++)
            good = replays_with_cut(&replays[i], cut);
        CU_ASSERT(good);
    }
}

static void an_error_stays(void) {
    struct http_machine m;
    struct record r = {.stop_after = -1, .buf = "GET /\r\n"};
    http_machine_begin(&m, HTTP_REQUEST, 32);
    CU_ASSERT_EQUAL(http_machine_run(&m, r.buf, 6, sink, &r), HTTP_BAD_VERSION);
    CU_ASSERT_EQUAL(http_machine_run(&m, r.buf, 7, sink, &r), HTTP_BAD_VERSION);
    CU_ASSERT_EQUAL(r.n, 0);
}

int main(void) {
    static const struct tap_test tests[] = {
        {"the events do not depend on how the bytes are cut", events_come_as_listed},
        {"after an error the machine returns the same error", an_error_stays},
        {NULL, NULL},
    };
    return tap_main("http grammar", tests);
}
