/*
 * A driver with stream-resume loses its link in the middle of everything and comes back, while one allocation or one
 * system call of the kit fails. Then its streams go on and nothing is missing, or they end and everybody sees that (as
 * without stream-resume), or the session is over; the next one works. Never is a byte mixed up, lost in the middle, or
 * doubled, and what is sent again is the same message, byte for byte.
 *
 * Runs: sanitized.
 */
#include "noheap.h"

#define FAILING_NOW kit_runs
#include "support/failing.h"

#define HELLO_NEW "{\"version\":\"hoody-tunnel.v1\",\"capabilities\":[\"stream-resume\"],\"replayBuffer\":1048576}"
#define CLOSE_HEAD "GET / HTTP/1.1\r\nHost: app\r\nConnection: close\r\n\r\n"
#define BODY 3000u /* of the answer, and what goes through the pulled port in each direction */
#define MESSAGES 256u
#define PULLED 2u /* the streams */
#define ASKED 4u

/* ---- the driver ---- */

struct message {
    uint8_t type;
    uint32_t stream;
    size_t n;
    uint8_t payload[1100];
};

static struct {
    struct message sent[MESSAGES]; /* that count, by number from 1 */
    uint64_t n_sent;               /* so many messages */
    uint64_t received;             /* messages that count */
    uint64_t hash[MESSAGES];       /* of messages that have come, by number */
    uint64_t seen;                 /* the number of the last one on this socket */
    size_t at;                     /* in what was read: behind the last whole message */
    bool open;                     /* messages may come */
    bool first;                    /* the next message is the first of its socket */
    char id[64];
    uint16_t ports[2];
    uint8_t in[2 * BODY]; /* of the pulled port's visitor */
    size_t n_in;
    bool eof_in, reset[ASKED + 1], goaway, closed;
    uint64_t confirmed; /* of HELLO_OK: how many messages the kit has received */
    bool whole, resumed;
} d;

static uint8_t char_of(unsigned way, size_t i) { return (uint8_t)('!' + (i * 7 + i / 90 + way * 31) % 90); }

static void pattern(uint8_t *out, unsigned way, size_t from, size_t n) {
    for (size_t i = 0; i < n; i++)
        out[i] = char_of(way, from + i);
}

static void check(bool good, const char *what) {
    CU_ASSERT(good);
    if (!good)
        printf("# %s\n", what);
}

/* Sends the message if there is a link; it counts either way. */
static bool send_counted(uint8_t type, uint32_t stream, const void *payload, size_t n, bool link) {
    struct message *m = &d.sent[++d.n_sent];
    CU_ASSERT_FATAL(d.n_sent < MESSAGES && n <= sizeof m->payload);
    *m = (struct message){.type = type, .stream = stream, .n = n};
    memcpy(m->payload, payload, n);
    return link && say_bytes(DRIVER, type, stream, payload, n);
}

static bool send_text(uint8_t type, uint32_t stream, const char *json, bool link) {
    return send_counted(type, stream, json, strlen(json), link);
}

static bool send_data(uint32_t stream, unsigned way, size_t from, size_t n, bool link) {
    uint8_t piece[1100];
    pattern(piece, way, from, n);
    return send_counted(WIRE_DATA, stream, piece, n, link);
}

static void take_frame(uint8_t type, uint32_t stream, const uint8_t *p, size_t n) {
    const char *word;
    switch (type) {
    case WIRE_HELLO_OK:
        word = memmem(p, n, "\"received\":", 11);
        d.whole = word != NULL;
        d.confirmed = word ? strtoull(word + 11, NULL, 10) : 0;
        d.resumed = memmem(p, n, "\"resumed\":true", 14) != NULL;
        word = memmem(p, n, "\"sessionId\":\"", 13);
        snprintf(d.id, 39, "%s", word ? word + 13 : "");
        break;
    case WIRE_BIND_OK:
        word = memmem(p, n, "\"containerPort\":", 16);
        d.ports[d.ports[0] != 0] = (uint16_t)(word ? strtoul(word + 16, NULL, 10) : 0);
        break;
    case WIRE_DATA:
        if (stream == PULLED) {
            CU_ASSERT_FATAL(d.n_in + n <= sizeof d.in);
            memcpy(d.in + d.n_in, p, n);
            d.n_in += n;
        }
        break;
    case WIRE_EOF:
        d.eof_in = d.eof_in || stream == PULLED;
        break;
    case WIRE_RESET:
        d.reset[stream <= ASKED ? stream : 0] = true;
        break;
    case WIRE_GOAWAY:
        d.goaway = true;
        break;
    default:
        break;
    }
}

/* A message that has come. `upto`: those with a higher number were not received after all. */
static void take_message(const uint8_t *p, size_t n, uint64_t upto) {
    bool counts = false, first = d.first;
    for (size_t at = 0; at + WIRE_LIMIT_HEADER <= n;) {
        counts = counts || p[at] != WIRE_ACK;
        at += WIRE_LIMIT_HEADER +
              ((size_t)p[at + 5] << 24 | (size_t)p[at + 6] << 16 | (size_t)p[at + 7] << 8 | (size_t)p[at + 8]);
    }
    if (first)
        d.seen = d.received;
    counts = counts && !first;
    d.first = false;
    if (counts) {
        uint64_t h = HT_HASH;
        d.seen++;
        CU_ASSERT_FATAL(d.seen < MESSAGES);
        for (size_t i = 0; i < n; i++)
            h = ht_hash_char(h, (char)p[i]);
        check(d.hash[d.seen] == 0 || d.hash[d.seen] == h, "a message that is sent again is another one");
        d.hash[d.seen] = h;
        if (d.seen > upto)
            return;
        d.received = d.seen;
    }
    for (size_t at = 0; at + WIRE_LIMIT_HEADER <= n;) {
        const uint8_t *f = p + at;
        size_t len = (size_t)f[5] << 24 | (size_t)f[6] << 16 | (size_t)f[7] << 8 | (size_t)f[8];
        uint32_t stream = (uint32_t)f[1] << 24 | (uint32_t)f[2] << 16 | (uint32_t)f[3] << 8 | (uint32_t)f[4];
        take_frame(f[0], stream, f + WIRE_LIMIT_HEADER, len);
        at += WIRE_LIMIT_HEADER + len;
    }
    if (first && !d.whole) { /* another session: its messages are counted anew */
        memset(d.hash, 0, sizeof d.hash);
        d.received = d.seen = 0;
    }
}

/* Reads the messages that have come whole. */
static void hear_upto(uint64_t upto) {
    take(DRIVER);
    while (d.open) {
        const uint8_t *p = (const uint8_t *)c[DRIVER].text + d.at;
        size_t left = c[DRIVER].n - d.at, head = 2, n;
        if (left < 2)
            return;
        n = p[1] & 0x7f;
        if (n == 126 && left >= 4) {
            n = (size_t)p[2] << 8 | p[3];
            head = 4;
        } else if (n >= 126) {
            CU_ASSERT_FATAL(n == 126); /* nothing here is as long */
            return;
        }
        if (left < head + n)
            return;
        d.at += head + n;
        if (p[0] == 0x82)
            take_message(p + head, n, upto);
        else
            d.closed = d.closed || p[0] == 0x88;
    }
}

static void hear(void) { hear_upto(UINT64_MAX); }

/* A listener that ran out of descriptors rests for a tenth of a second, and its queue is not long. */
static void wait_a_moment(void) {
    d.open = false;
    hang_up(DRIVER);
    for (uint64_t until = ht_now_ms() + 25; ht_now_ms() < until;)
        patient_turn();
}

static bool connect_with(const char *hello) {
    d.open = false;
    d.first = true;
    d.closed = d.goaway = d.whole = d.resumed = false;
    d.id[0] = '\0';
    if (!upgrade_as(DRIVER, WIRE_SUBPROTOCOL_V1, NULL))
        return false;
    d.at = (size_t)(strstr(c[DRIVER].text, "\r\n\r\n") + 4 - c[DRIVER].text);
    d.open = true;
    (void)say_frame(DRIVER, WIRE_HELLO, 0, hello);
    for (int i = 0; i < 4 && !d.id[0] && !c[DRIVER].eof; i++) {
        few_turns();
        hear();
    }
    return d.id[0] != '\0';
}

/* ---- before ---- */

/* A pulled connection and an answer, both under way. True: all of it works, as it must. */
static void begin(void) {
    memset(&d, 0, sizeof d);
    uint64_t until = ht_now_ms() + PATIENCE_MS;
    while (!connect_with(HELLO_NEW) && ht_now_ms() < until)
        wait_a_moment();
    CU_ASSERT_FATAL(d.open && d.id[0]);
    CU_ASSERT(send_text(WIRE_BIND, 0, "{\"clientBindRef\":1,\"kind\":\"tcp\",\"mode\":\"pull\"}", true));
    CU_ASSERT(send_text(WIRE_BIND, 0, "{\"clientBindRef\":2,\"kind\":\"http\",\"mode\":\"expose\"}", true));
    hear();
    CU_ASSERT_FATAL(d.ports[0] && d.ports[1]);
    dial(VISITOR, d.ports[0]);
    uint8_t piece[600];
    pattern(piece, 0, 0, sizeof piece);
    CU_ASSERT(say(VISITOR, piece, sizeof piece));
    dial(LATE, d.ports[1]);
    CU_ASSERT(say_text(LATE, CLOSE_HEAD));
    hear();
    CU_ASSERT_EQUAL_FATAL(d.n_in, sizeof piece);
    CU_ASSERT(send_data(PULLED, 1, 0, 500, true));
    CU_ASSERT(send_text(WIRE_STREAM_RESPONSE_HEAD, ASKED, HEAD_OF("3000"), true));
    CU_ASSERT(send_data(ASKED, 2, 0, 500, true));
}

/* ---- the loss ---- */

static void visitor_says(size_t from, size_t n) {
    uint8_t piece[1200];
    pattern(piece, 0, from, n);
    (void)say(VISITOR, piece, n);
}

/* What was said last is not received, in either direction: by the kit not at all, or half of a message. */
static void lose(void) {
    /* The first bytes of a message that comes again whole: DATA of 500 bytes, masked with zeros. */
    uint8_t half[8 + WIRE_LIMIT_HEADER + 200] = {0x82, 0xfe, (500 + WIRE_LIMIT_HEADER) >> 8,
                                                 (500 + WIRE_LIMIT_HEADER) & 0xff};
    visitor_says(600, 600);
    hear();
    uint64_t upto = d.received;
    visitor_says(1200, 600);
    (void)send_data(PULLED, 1, 500, 500, true);
    hear_upto(upto); /* it was not received */
    (void)send_data(ASKED, 2, 500, 500, false);
    (void)send_data(PULLED, 1, 1000, 500, false);
    wire_encode_header(half + 8, WIRE_DATA, ASKED, 500);
    pattern(half + 8 + WIRE_LIMIT_HEADER, 2, 500, 200);
    (void)say(DRIVER, half, sizeof half);
    setsockopt(c[DRIVER].fd, SOL_SOCKET, SO_LINGER, &(struct linger){.l_onoff = 1}, sizeof(struct linger));
    d.open = false; /* nor is what came last */
    hang_up(DRIVER);
    visitor_says(1800, 600);
    (void)send_data(PULLED, 1, 1500, 500, false);
}

/* ---- the way back ---- */

/* Tries until the kit takes it. False: it never did. */
static bool come_back(void) {
    char hello[300], id[64];
    memcpy(id, d.id, sizeof id);
    for (uint64_t until = ht_now_ms() + PATIENCE_MS; ht_now_ms() < until;) {
        snprintf(hello, sizeof hello,
                 "{\"version\":\"hoody-tunnel.v1\",\"capabilities\":[\"stream-resume\"],\"replayBuffer\":1048576,"
                 "\"resume\":{\"sessionId\":\"%s\",\"received\":%llu}}",
                 id, (unsigned long long)d.received);
        if (connect_with(hello))
            return true;
        wait_a_moment();
    }
    return false;
}

/* What the kit has not received is sent again. */
static bool send_again(void) {
    check(d.confirmed <= d.n_sent, "the kit has received more than was sent");
    bool good = true;
    for (uint64_t i = d.confirmed + 1; i <= d.n_sent; i++)
        good = say_bytes(DRIVER, d.sent[i].type, d.sent[i].stream, d.sent[i].payload, d.sent[i].n) && good;
    return good;
}

static bool rest_of_it(void) {
    visitor_says(2400, 600);
    shutdown(c[VISITOR].fd, SHUT_WR);
    few_turns();
    bool good = send_data(PULLED, 1, 2000, 500, true) && send_data(PULLED, 1, 2500, 500, true) &&
                send_counted(WIRE_EOF, PULLED, "", 0, true);
    for (size_t from = 1000; from < BODY; from += 500)
        good = send_data(ASKED, 2, from, 500, true) && good;
    return send_counted(WIRE_EOF, ASKED, "", 0, true) && good;
}

/* ---- what has come of it ---- */

/* The bytes are those that were said, as far as they go. */
static bool right(const void *bytes, size_t n, unsigned way) {
    const uint8_t *p = bytes;
    bool good = n <= BODY;
    for (size_t i = 0; good && i < n; i++)
        good = p[i] == char_of(way, i);
    return good;
}

static const char *body_of(int who, size_t *n) {
    const char *end = strstr(c[who].text, "\r\n\r\n");
    *n = end ? c[who].n - (size_t)(end + 4 - c[who].text) : 0;
    return end ? end + 4 : NULL;
}

static bool pulled_all(void) { return d.n_in == BODY && d.eof_in && c[VISITOR].n == BODY && c[VISITOR].eof; }

static bool answered_all(void) {
    size_t n;
    return body_of(LATE, &n) && n == BODY && c[LATE].eof;
}

static void look(void) {
    size_t n;
    const char *body;
    hear();
    take(VISITOR);
    take(LATE);
    check(right(d.in, d.n_in, 0), "the driver has heard wrong bytes");
    check(right(c[VISITOR].text, c[VISITOR].n, 1), "the visitor has heard wrong bytes");
    body = body_of(LATE, &n);
    check(!body || strncmp(c[LATE].text, "HTTP/1.1 200 ", 13) != 0 || right(body, n, 2), "the answer is wrong");
}

static struct { unsigned whole, anew, fresh, ends; /* how it went on */ } outcomes;

/* From the loss to the end. True: nobody has noticed anything. */
static bool over_a_loss(void) {
    lose();
    look();
    bool back = come_back(), good = back && d.whole;
    outcomes.whole += good;
    outcomes.anew += back && !d.whole && d.resumed;
    outcomes.fresh += back && !d.whole && !d.resumed;
    outcomes.ends += !back;
    check(!d.whole || d.resumed, "streams that go on in no session");
    if (good)
        good = send_again() && rest_of_it();
    for (int i = 0; i < 40 && !(pulled_all() && answered_all()); i++) {
        bool both = c[VISITOR].eof && c[LATE].eof;
        i < 8 || both ? few_turns() : patient_turn();
        look();
        if (both && i > 8)
            break;
    }
    /* Nobody waits for what does not come. */
    if (back && !d.whole)
        check(c[VISITOR].eof && c[LATE].eof, "streams that did not go on have not ended");
    return good && pulled_all() && answered_all();
}

static void end(void) {
    hang_up_all();
    for (int i = 0; i < 200 && kit_sessions_live(host.kit) > 0; i++)
        patient_turn();
    host_stop();
}

/* The same once more, and nothing fails. */
static void works_again(void) {
    hang_up_all();
    ht_mem_fail_at(-1);
    begin();
    check(over_a_loss(), "it does not work again");
}

static void nothing_fails(void) {
    for (int who = 0; who < N_CLIENTS; who++)
        c[who].fd = -1;
    host_start("");
    begin();
    CU_ASSERT(over_a_loss());
    CU_ASSERT_EQUAL(outcomes.whole, 1);
    CU_ASSERT_EQUAL(kit_metrics(host.kit)->resumes_whole_total, 1);
    works_again();
    end();
}

static void each_allocation_may_fail(void) {
    memset(&outcomes, 0, sizeof outcomes);
    long n = 0;
    for (bool pending = false; n < 2000 && !pending; n++) {
        host_start("");
        begin();
        ht_mem_fail_at(n);
        bool good = over_a_loss();
        pending = ht_mem_fail_pending();
        ht_mem_fail_at(-1);
        CU_ASSERT(good || !pending);
        works_again();
        end();
    }
    printf("# %ld allocations: %u whole, %u anew, %u without a session, %u did not come back\n", n, outcomes.whole,
           outcomes.anew, outcomes.fresh, outcomes.ends);
    CU_ASSERT(n > 8 && n < 2000);
    CU_ASSERT(outcomes.ends == 0 && outcomes.anew + outcomes.fresh > 0);
}

/* ---- system calls ---- */

static const struct failing_kind kinds[] = {
    {RECV, EINTR, true},
    {RECV, SHORT, true},
    {RECV, EAGAIN, true},
    {RECV, ECONNRESET, false},
    {RECV, ENOMEM, false},
    {SENDMSG, EINTR, true},
    {SENDMSG, SHORT, true},
    {SENDMSG, EAGAIN, true},
    {SENDMSG, EPIPE, false},
    {SENDMSG, ENOBUFS, false},
    {ACCEPT4, EINTR, true},
    {ACCEPT4, ECONNABORTED, true},
    {ACCEPT4, EMFILE, true},
    {EPOLL_WAIT, EINTR, true},
    {SHUTDOWN, ENOTCONN, false},
    {SETSOCKOPT, ENOBUFS, false},
    {GETSOCKOPT, ENOBUFS, false},
    {GETSOCKNAME, ENOBUFS, false},
    {GETPEERNAME, ENOTCONN, false},
    {READ, EINTR, true},
    {WRITE, EINTR, true},
};

static bool run_once(size_t which, const struct failing_kind *kind, long at, bool *good) {
    (void)which;
    host_start("");
    begin();
    fault_arm(kind, at);
    *good = over_a_loss();
    bool hit = fault_disarm();
    CU_ASSERT(*good || hit);
    works_again();
    end();
    return hit;
}

static void each_system_call_may_fail(void) {
    struct failing_sums sums = {0, 0, 0};
    memset(&outcomes, 0, sizeof outcomes);
    for (size_t kind = 0; kind < HT_ARRAY_LEN(kinds); kind++)
        fail_each_call(&sums, 0, "a resume", &kinds[kind], 200, run_once);
    printf("# %u faults, %u seen by somebody; %u whole, %u anew, %u without a session, %u did not come back\n",
           sums.total, sums.seen, outcomes.whole, outcomes.anew, outcomes.fresh, outcomes.ends);
    CU_ASSERT_EQUAL(sums.bad, 0);
    CU_ASSERT(sums.total > 100 && sums.seen > 5);
    CU_ASSERT_EQUAL(outcomes.ends, 0);
}

int main(void) {
    static const struct tap_test tests[] = {
        {"streams go on over a loss", nothing_fails},
        {"each allocation may fail meanwhile", each_allocation_may_fail},
        {"each system call may fail meanwhile", each_system_call_may_fail},
        {NULL, NULL},
    };
    return tap_main("resume", tests);
}
