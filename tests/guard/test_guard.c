/* Requests of a container on their way through the guard to a service that the test plays byte by byte. */
#include "guard/guard_rig.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *const other_values[] = {"Bearer other"};

static void a_request_gets_its_secret(void) {
    begin();
    struct guard_host_config cfg = config("api.test");
    host = add(&cfg);
    struct call *c =
        connection(1, "GET /v1/a?q=1 HTTP/1.1\r\nHost: api.test\r\nAuthorization: Bearer mine\r\nX-A: 1\r\n\r\n");
    struct service_conn *s = service_wait(0, "\r\n\r\n");
    CU_ASSERT_STRING_EQUAL(service_heard(s), "GET /v1/a?q=1 HTTP/1.1\r\nhost: api.test\r\nx-a: 1\r\n"
                                             "authorization: Bearer " CANARY "\r\n\r\n");
    service_forget(s);
    /* What repeats the secret does not come back; the rest does. */
    service_says(s, "HTTP/1.1 200 " CANARY "\r\nX-Echo: Bearer " CANARY "\r\nX-B: 2\r\nContent-Length: 5\r\n\r\nhello");
    until_says(c, "hello");
    CU_ASSERT_PTR_NULL(strstr(call_body(c), CANARY));
    CU_ASSERT(strstr(call_body(c), "HTTP/1.1 200 OK\r\n") != NULL);
    CU_ASSERT(strstr(call_body(c), "X-B: 2") != NULL);
    UNTIL(n_ended == 1);
    CU_ASSERT_STRING_EQUAL(notes, "api.test:80 GET /v1/a?q=1 allowed - secret 192.0.2.7:1234 0\nend 1 200 0 5\n");
    /* The next one on the same connections, here and there. */
    says(c, "POST /b HTTP/1.1\r\nHost: api.test\r\nContent-Length: 4\r\n\r\nbody");
    service_wait(0, "body");
    CU_ASSERT(strstr(service_heard(s), "authorization: Bearer " CANARY) != NULL);
    service_says(s, OK_HELLO);
    UNTIL(n_ended == 2);
    CU_ASSERT_EQUAL(rig.n_conns, 1);
    CU_ASSERT_EQUAL(guard_host_streams(host), 1);
    end();
}

static void what_is_refused_is_never_near_the_service(void) {
    static const char *const allow[] = {"GET /v1/*"}, *const deny[] = {"* /v1/admin"};
    static const struct {
        const char *request, *status, *note;
    } rows[] = {
        {GET("/v2"), "403", "no-rule-allows-it"},
        {GET("/v1/admin"), "403", "denied-by-rule * /v1/admin"},
        {GET("/v1/%61dmin"), "403", "denied-by-rule * /v1/admin"},
        {GET("/v1/../x"), "400", "ambiguous-path"},
        {"TRACE /v1/a HTTP/1.1\r\nHost: api.test\r\n\r\n", "405", "method-not-served"},
        {"GET /v1/a HTTP/1.1\r\nHost: evil.test\r\n\r\n", "421", "another-host"},
        {"GET http://evil.test/v1/a HTTP/1.1\r\nHost: evil.test\r\n\r\n", "421", "another-host"},
        {"POST /v1/a HTTP/1.1\r\nHost: api.test\r\nContent-Length: 3\r\n\r\nabc", "403", "no-rule-allows-it"},
    };
    begin();
    struct guard_host_config cfg = config("api.test");
    cfg.policy.allow = allow;
    cfg.policy.deny = deny;
    cfg.policy.n_allow = cfg.policy.n_deny = 1;
    host = add(&cfg);
    for (size_t i = 0; i < HT_ARRAY_LEN(rows); i++) {
        notes[0] = '\0';
        struct call *c = connection(1, rows[i].request);
        until_says(c, "refused by hoody-tunnel");
        CU_ASSERT_NSTRING_EQUAL(call_body(c) + 9, rows[i].status, 3);
        CU_ASSERT_PTR_NULL(strstr(call_body(c), CANARY));
        if (!strstr(notes, rows[i].note))
            printf("# %s# %s", rows[i].request, notes);
        CU_ASSERT(strstr(notes, rows[i].note) != NULL);
        CU_ASSERT(strstr(notes, rows[i].status) != NULL);
        CU_ASSERT_PTR_EQUAL(strchr(notes, '\n') + 1, notes + strlen(notes)); /* once */
        CU_ASSERT_PTR_NULL(strstr(notes, "secret"));
    }
    /* The connection is good for the next request. */
    struct call *c = connection(1, GET("/v2") GET("/v1/ok"));
    struct service_conn *s = service_wait(0, "\r\n\r\n");
    CU_ASSERT_NSTRING_EQUAL(service_heard(s), "GET /v1/ok", 10);
    service_says(s, OK_HELLO);
    until_says(c, "hello");
    CU_ASSERT_EQUAL(rig.n_conns, 1);
    end();
}

/* Two readings of where a request ends: the second one must not reach the service with a secret. */
static void nothing_is_smuggled(void) {
    static const char *const rows[] = {
        "POST /v1/a HTTP/1.1\r\nHost: api.test\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" GET(
            "/canary"),
        "POST /v1/a HTTP/1.1\r\nHost: api.test\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcd" GET("/canary"),
        "POST /v1/a HTTP/1.1\r\nHost: api.test\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" GET("/canary"),
        "GET /v1/a HTTP/1.1\r\nHost: api.test\r\nHost: evil.test\r\n\r\n" GET("/canary"),
        "GET /v1/a HTTP/1.1\r\nHost: api.test\r\nX: a\nAuthorization: b\r\n\r\n" GET("/canary"),
        "GET /v1/a HTTP/1.1\r\nHost : api.test\r\n\r\n" GET("/canary"),
        "GET http://api.test/v1/a HTTP/1.1\r\nHost: evil.test\r\n\r\n" GET("/canary"),
    };
    begin();
    struct guard_host_config cfg = config("api.test");
    host = add(&cfg);
    for (size_t i = 0; i < HT_ARRAY_LEN(rows); i++) {
        struct call *c = connection(1, rows[i]);
        UNTIL(c->closes || c->eofs);
        CU_ASSERT_NSTRING_EQUAL(call_body(c), "HTTP/1.1 4", 10);
        CU_ASSERT_PTR_NULL(strstr(notes, "/canary"));
    }
    CU_ASSERT_EQUAL(rig.n_conns, 0);
    end();
}

static void a_placeholder_is_for_one_host(void) {
    begin();
    struct guard_host_config cfg = config("api.test");
    cfg.policy.placeholder = PLACEHOLDER;
    host = add(&cfg);
    cfg = config("other.test");
    cfg.policy.header_values = other_values;
    other = add(&cfg);
    struct call *c = connection(2, "GET / HTTP/1.1\r\nHost: other.test\r\nX-Key: " PLACEHOLDER "\r\n\r\n");
    until_says(c, "refused by");
    CU_ASSERT_NSTRING_EQUAL(call_body(c) + 9, "403", 3);
    CU_ASSERT(strstr(notes, "placeholder-elsewhere") != NULL);
    c = connection(2, "GET /?k=" PLACEHOLDER " HTTP/1.1\r\nHost: other.test\r\n\r\n");
    until_says(c, "refused by");
    CU_ASSERT_NSTRING_EQUAL(call_body(c) + 9, "403", 3);
    CU_ASSERT_EQUAL(rig.n_conns, 0);
    c = connection(1, "GET / HTTP/1.1\r\nHost: api.test\r\nAuthorization: Bearer " PLACEHOLDER "\r\n\r\n");
    struct service_conn *s = service_wait(0, "\r\n\r\n");
    CU_ASSERT(strstr(service_heard(s), "authorization: Bearer " CANARY "\r\n") != NULL);
    CU_ASSERT_PTR_NULL(strstr(service_heard(s), PLACEHOLDER));
    service_says(s, OK_HELLO);
    until_says(c, "hello");
    /* A second host with it would leave nobody knowing which one is meant. */
    struct ht_errmsg err;
    int rc;
    cfg = config("third.test");
    cfg.policy.placeholder = PLACEHOLDER;
    CU_ASSERT_PTR_NULL(guard_host_add(guard, &cfg, &rc, &err));
    CU_ASSERT_EQUAL(rc, HT_EINVAL);
    end();
}

/* Plain HTTP to another machine: whoever is on the way would have the secret. */
static void no_secret_goes_out_in_the_clear(void) {
    begin();
    struct guard_host_config cfg = config("api.test");
    cfg.target = "192.0.2.1"; /* nobody's (RFC 5737) */
    host = add(&cfg);
    struct call *c = connection(1, GET("/"));
    until_says(c, "refused by");
    CU_ASSERT_NSTRING_EQUAL(call_body(c) + 9, "403", 3);
    CU_ASSERT(strstr(notes, "secret-over-plain-http") != NULL);
    end();
}

static void what_cannot_be_noted_is_refused(void) {
    begin();
    struct guard_host_config cfg = config("api.test");
    host = add(&cfg);
    unwritable = true;
    struct call *c = connection(1, GET("/"));
    until_says(c, "refused by");
    CU_ASSERT_NSTRING_EQUAL(call_body(c) + 9, "503", 3);
    CU_ASSERT_EQUAL(rig.n_conns, 0);
    CU_ASSERT_STRING_EQUAL(notes, "api.test:80 GET / allowed - secret 192.0.2.7:1234 0\n"
                                  "api.test:80 GET / audit-unwritable - - 192.0.2.7:1234 503\n");
    /* What is refused anyway needs no note to be refused. */
    notes[0] = '\0';
    c = connection(1, "TRACE / HTTP/1.1\r\nHost: api.test\r\n\r\n");
    until_says(c, "refused by");
    CU_ASSERT_NSTRING_EQUAL(call_body(c) + 9, "405", 3);
    CU_ASSERT(strstr(notes, "method-not-served") != NULL);
    end();
}

/* Whoever has come to know a secret does not get it into what is written of him, nor does a service. */
static void no_note_holds_a_secret(void) {
    begin();
    struct guard_host_config cfg = config("api.test");
    host = add(&cfg);
    struct call *c = connection(1, GET("/x/" CANARY "?a=" CANARY));
    struct service_conn *s = service_wait(0, "\r\n\r\n");
    service_says(s, "HTTP/1.1 200 OK\r\n" CANARY "\r\n\r\n");
    UNTIL(n_ended == 1 || c->closes);
    CU_ASSERT(strstr(notes, "GET (withheld: it holds a secret)?(withheld: it holds a secret) allowed") != NULL);
    CU_ASSERT_PTR_NULL(strstr(notes, CANARY));
    c = connection(1, "TRACE /" CANARY " HTTP/1.1\r\nHost: api.test\r\n\r\n");
    until_says(c, "refused by");
    CU_ASSERT_PTR_NULL(strstr(notes, CANARY));
    end();
}

static void a_secret_that_goes_away(void) {
    static char path[] = P_tmpdir "/guard-secret-XXXXXX";
    char value[64];
    const char *file_value = value;
    begin();
    int fd = mkstemp(path);
    CU_ASSERT_FATAL(fd >= 0 && write(fd, CANARY "\n", sizeof CANARY) == sizeof CANARY);
    snprintf(value, sizeof value, "Bearer ${file:%s}", path);
    struct guard_host_config cfg = config("api.test");
    cfg.policy.header_values = &file_value;
    host = add(&cfg);
    unlink(path);
    struct call *c = connection(1, GET("/"));
    until_says(c, "refused by");
    CU_ASSERT_NSTRING_EQUAL(call_body(c) + 9, "503", 3);
    CU_ASSERT(strstr(notes, "secret-unreadable") != NULL);
    CU_ASSERT(strstr(troubles, path) != NULL && !strstr(troubles, CANARY));
    CU_ASSERT_EQUAL(rig.n_conns, 0);
    close(fd);
    end();
}

/* The first request waits for a command with all that comes of it, and other hosts' do not. */
static void a_command_is_awaited(void) {
    char folder[] = P_tmpdir "/guard-fifo-XXXXXX", path[64], value[128];
    const char *command = value;
    begin();
    CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/fifo", folder);
    CU_ASSERT_EQUAL_FATAL(mkfifo(path, 0600), 0);
    snprintf(value, sizeof value, "Bearer ${command:cat %s}", path);
    struct guard_host_config cfg = config("api.test");
    cfg.policy.header_values = &command;
    cfg.policy.rate = "3/h";
    host = add(&cfg);
    cfg = config("other.test");
    other = add(&cfg);
    struct call *c =
        connection(1, "POST /a HTTP/1.1\r\nHost: api.test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n");
    struct call *gone = connection(1, GET("/gone"));
    struct call *o = connection(2, "GET /o HTTP/1.1\r\nHost: other.test\r\n\r\n");
    struct service_conn *s = service_wait(0, "GET /o");
    service_says(s, OK_HELLO);
    until_says(o, "hello");
    says(c, "3\r\ntwo\r\n0\r\n\r\n");
    mux_stream_release(&gone->st);
    settle();
    CU_ASSERT_EQUAL(rig.n_conns, 1);
    CU_ASSERT_PTR_NULL(strstr(notes, "api.test"));
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    CU_ASSERT_FATAL(fd >= 0 && write(fd, CANARY "-2\n", sizeof CANARY + 2) == sizeof CANARY + 2);
    close(fd);
    service_forget(s);
    UNTIL(rig.n_conns == 2);
    s = service_wait(1, "0\r\n\r\n");
    CU_ASSERT(strstr(service_heard(s), "authorization: Bearer " CANARY "-2\r\n") != NULL);
    CU_ASSERT(strstr(service_heard(s), "one") && strstr(service_heard(s), "two"));
    service_says(s, OK_HELLO);
    until_says(c, "hello");
    CU_ASSERT_PTR_NULL(strstr(call_body(c), CANARY));
    CU_ASSERT_STRING_EQUAL(troubles, "");
    /* The one that left was counted, and nothing else became of it. */
    c = connection(1, GET("/third"));
    service_wait(1, "/third");
    c = connection(1, GET("/fourth"));
    until_says(c, "refused by");
    CU_ASSERT_NSTRING_EQUAL(call_body(c) + 9, "429", 3);
    CU_ASSERT_PTR_NULL(strstr(notes, "/gone"));
    end();
    unlink(path);
    rmdir(folder);
}

static void a_command_that_fails(void) {
    const char *command = "Bearer ${command:echo " CANARY "; exit 7}";
    begin();
    struct guard_host_config cfg = config("api.test");
    cfg.policy.header_values = &command;
    host = add(&cfg);
    UNTIL(*troubles); /* told before anybody asks */
    CU_ASSERT(strstr(troubles, "it ended with status 7") != NULL);
    struct call *c = connection(1, GET("/"));
    until_says(c, "refused by");
    CU_ASSERT_NSTRING_EQUAL(call_body(c) + 9, "503", 3);
    CU_ASSERT(strstr(notes, "secret-unreadable") != NULL);
    CU_ASSERT_EQUAL(rig.n_conns, 0);
    /* A host that goes, with one that waits. */
    command = "Bearer ${command:tail -f /dev/null}";
    guard_host_remove(&host);
    host = add(&cfg);
    c = connection(1, GET("/"));
    settle();
    CU_ASSERT_EQUAL(c->closes, 0);
    guard_host_remove(&host);
    UNTIL(c->closes);
    CU_ASSERT_EQUAL(rig.n_conns, 0);
    end();
}

/* ---- TLS ---- */

static void tls_is_ended_here(void) {
    struct client k;
    char answer[2048];
    begin();
    struct guard_host_config cfg = config("api.test");
    cfg.spoken = GUARD_PLAIN; /* TLS in the container, and none to a service on this machine */
    host = add(&cfg);
    asked = 443;
    client_begin(&k, guard_host_ca(host), "api.test");
    CU_ASSERT_FATAL(client_handshake(&k));
    const unsigned char *alpn;
    unsigned n;
    SSL_get0_alpn_selected(k.ssl, &alpn, &n);
    CU_ASSERT(n == 8 && memcmp(alpn, "http/1.1", 8) == 0);
    SSL_write(k.ssl, GET("/tls"), (int)strlen(GET("/tls")));
    client_carry(&k);
    struct service_conn *s = service_wait(0, "\r\n\r\n");
    CU_ASSERT(strstr(service_heard(s), "authorization: Bearer " CANARY) != NULL);
    char want[64];
    snprintf(want, sizeof want, "host: 127.0.0.1:%u\r\n", rig.cfg.port); /* its own name */
    CU_ASSERT(strstr(service_heard(s), want) != NULL);
    service_says(s, OK_HELLO);
    client_read(&k, answer, sizeof answer, "hello");
    CU_ASSERT(strstr(answer, "200 OK") && strstr(answer, "hello"));
    /* An answer that is cut is no answer that has ended: no close_notify comes. */
    SSL_write(k.ssl, GET("/cut"), (int)strlen(GET("/cut")));
    client_carry(&k);
    service_forget(s);
    service_wait(0, "/cut");
    service_says(s, "HTTP/1.1 200 OK\r\n\r\nhalf");
    client_read(&k, answer, sizeof answer, "half");
    io_conn_abort(&s->c);
    client_read(&k, answer, sizeof answer, "never");
    CU_ASSERT_EQUAL(SSL_get_shutdown(k.ssl) & SSL_RECEIVED_SHUTDOWN, 0);
    client_end(&k);
    /* Another name than the stream was opened for. */
    client_begin(&k, guard_host_ca(host), "evil.test");
    CU_ASSERT(!client_handshake(&k));
    client_end(&k);
    end();
}

static void who_does_not_trust_is_told_of(void) {
    struct client k;
    begin();
    struct guard_host_config cfg = config("api.test");
    host = add(&cfg);
    struct guard_host_config o = config("other.test");
    other = add(&o);
    asked = 443;
    client_begin(&k, guard_host_ca(other), "api.test");
    CU_ASSERT(!client_handshake(&k));
    for (int i = 0; i < 20 && !*troubles; i++)
        client_carry(&k);
    CU_ASSERT(strstr(troubles, "api.test: the program in the container does not trust") != NULL);
    client_end(&k);
    end();
}

static void bodies_stream_both_ways(void) {
    begin();
    struct guard_host_config cfg = config("api.test");
    host = add(&cfg);
    struct call *c =
        connection(1, "POST /up HTTP/1.1\r\nHost: api.test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n");
    struct service_conn *s = service_wait(0, "one");
    service_forget(s);
    says(c, "3\r\ntwo\r\n");
    service_wait(0, "two");
    /* An answer before the request's end, piece by piece. */
    service_says(
        s,
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n");
    until_says(c, "data: 1");
    service_says(s, "9\r\ndata: 2\n\n\r\n");
    until_says(c, "data: 2");
    says(c, "0\r\n\r\n");
    service_wait(0, "0\r\n\r\n");
    service_says(s, "0\r\n\r\n");
    UNTIL(n_ended == 1);
    /* 100-continue, and an upgrade that becomes raw bytes. */
    c = connection(1, "PUT /c HTTP/1.1\r\nHost: api.test\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n");
    until_says(c, "100 Continue");
    says(c, "abc");
    service_forget(s);
    s = service_wait(0, "abc");
    service_says(s, OK_HELLO);
    until_says(c, "hello");
    UNTIL(n_ended == 2);
    service_forget(s);
    c = connection(1, "GET /ws HTTP/1.1\r\nHost: api.test\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n");
    s = service_wait(0, "upgrade: websocket");
    CU_ASSERT(strstr(service_heard(s), "authorization: Bearer " CANARY) != NULL);
    service_says(s, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nraw");
    until_says(c, "raw");
    says(c, "back");
    service_wait(0, "back");
    CU_ASSERT_EQUAL(n_ended, 2); /* an upgrade is over when its bytes are */
    io_conn_close(&s->c);
    says(c, "");
    mux_stream_reset(c->st, WIRE_CODE_CANCEL, "");
    UNTIL(n_ended == 3);
    CU_ASSERT(strstr(notes, "end 3 101 4 3") != NULL);
    end();
}

/* Hosts come and go while connections are open. */
static void a_host_is_taken_away(void) {
    begin();
    struct guard_host_config cfg = config("api.test");
    host = add(&cfg);
    struct call *c = connection(1, GET("/slow"));
    service_wait(0, "/slow");
    guard_host_remove(&host);
    CU_ASSERT_EQUAL(n_ended, 1); /* at once: nobody is there later who could tell it */
    CU_ASSERT(strstr(notes, "end 1 0 0 0 the tunnel is closing") != NULL);
    UNTIL(c->closes);
    CU_ASSERT_EQUAL(c->reset, WIRE_CODE_CANCEL);
    host = add(&cfg);
    c = connection(1, GET("/again"));
    struct service_conn *s = service_wait(1, "/again");
    service_says(s, OK_HELLO);
    until_says(c, "hello");
    end();
}

/* Who says nothing, or half of something, holds a connection for a while and no longer; nobody holds all of them. */
static void slow_programs(void) {
    static const struct {
        uint16_t port;
        const char *says;
        size_t n;
        const char *answer;
    } rows[] = {
        {80, "", 0, ""},
        {443, "\x16", 1, ""},
        {443, "\x16\x03\x01\x02\x00\x01\x00", 7, ""},
        {80, "GET / HTTP/1.1\r\nHost: api.te", 27, "HTTP/1.1 408 "},
    };
    begin();
    struct guard_host_config cfg = config("api.test");
    host = add(&cfg);
    for (size_t i = 0; i < HT_ARRAY_LEN(rows); i++) {
        asked = rows[i].port;
        struct call *c = connection(1, "");
        call_sends(c, rows[i].says, rows[i].n, false);
        settle();
        CU_ASSERT(!c->closes && !c->eofs);
        ht_clock_skip((WIRE_LIMIT_HEAD_TIMEOUT + 1000) * UINT64_C(1000));
        UNTIL(c->closes || c->eofs);
        CU_ASSERT_NSTRING_EQUAL(call_body(c), rows[i].answer, strlen(rows[i].answer));
        if (c->st)
            mux_stream_reset(c->st, WIRE_CODE_CANCEL, "");
        UNTIL(guard_host_streams(host) == 0);
    }
    for (unsigned i = 0; i < MAX_STREAMS; i++)
        connection(1, "");
    struct call *c = connection(1, GET("/"));
    UNTIL(c->closes);
    CU_ASSERT_EQUAL(c->reset, WIRE_CODE_REFUSED_STREAM);
    CU_ASSERT_EQUAL(guard_host_streams(host), MAX_STREAMS);
    CU_ASSERT_EQUAL(n_begun, 0);
    end();
}

/* The link is away for longer than anybody may take for a head, or to read an answer: nobody is to blame for that. Off:
 * begins_anew() (visitor_http.c), `away` in silent(). */
static void programs_whose_link_is_away(void) {
    static char big[300000];
    memset(big, 'x', sizeof big - 1);
    rig.stream_window = 65536;
    begin();
    struct guard_host_config cfg = config("api.test");
    host = add(&cfg);
    struct call *quiet = connection(1, ""), *half = connection(1, "GET /half HTTP/1.1\r\nHost: api.te"),
                *reads = connection(1, GET("/big"));
    reads->keep = true;
    struct service_conn *s = service_wait(0, "\r\n\r\n");
    service_says(s, "HTTP/1.1 200 OK\r\nContent-Length: 299999\r\n\r\n");
    service_bytes(s, big, sizeof big - 1);
    UNTIL(reads->received >= 65536);
    settle();
    guard_away(guard, true);
    for (unsigned i = 0; i < 3; i++) {
        ht_clock_skip((WIRE_LIMIT_HEAD_TIMEOUT + 1000) * UINT64_C(1000));
        settle();
    }
    guard_away(guard, false);
    CU_ASSERT_EQUAL(quiet->closes + quiet->eofs + half->closes + half->eofs + reads->closes + reads->eofs, 0);
    reads->keep = false;
    mux_stream_consumed(reads->st, mux_stream_unconsumed(reads->st));
    UNTIL(reads->received > 299999);
    CU_ASSERT_EQUAL(reads->closes, 0);
    says(half, "st\r\n\r\n");
    says(quiet, GET("/quiet"));
    for (unsigned i = 1; i <= 2; i++)
        service_says(service_wait(i, "\r\n\r\n"), OK_HELLO);
    until_says(half, "hello");
    until_says(quiet, "hello");
    ht_clock_skip((5000 + WIRE_LIMIT_KEEPALIVE_TIMEOUT + 1000) * UINT64_C(1000)); /* and all limits hold */
    UNTIL(quiet->eofs || quiet->closes);
    rig.stream_window = 0;
    end();
}

/* A head is bounded, and what is longer is nobody's to judge. */
static void huge_heads(void) {
    static char text[WIRE_LIMIT_MAX_HEAD + 8192];
    static const struct {
        size_t target, value;
        unsigned fields;
        const char *status;
    } rows[] = {
        {WIRE_LIMIT_MAX_TARGET + 1, 0, 0, "414"},
        {1, WIRE_LIMIT_MAX_HEAD, 0, "431"},
        {1, 0, WIRE_LIMIT_MAX_HEADERS - GUARD_HEADERS_MAX, "431"}, /* with what it gets it would be too much */
    };
    begin();
    struct guard_host_config cfg = config("api.test");
    host = add(&cfg);
    for (size_t i = 0; i < HT_ARRAY_LEN(rows); i++) {
        int n = sprintf(text, "GET /");
        memset(text + n, 'a', rows[i].target - 1);
        n += (int)rows[i].target - 1;
        n += sprintf(text + n, " HTTP/1.1\r\nHost: api.test\r\n");
        for (unsigned k = 0; k < rows[i].fields; k++)
            n += sprintf(text + n, "X-%u: 1\r\n", k);
        n += sprintf(text + n, "X: ");
        memset(text + n, 'b', rows[i].value);
        n += (int)rows[i].value;
        sprintf(text + n, "\r\n\r\n");
        struct call *c = connection(1, text);
        UNTIL(c->closes || c->eofs);
        CU_ASSERT_NSTRING_EQUAL(call_body(c) + 9, rows[i].status, 3);
    }
    CU_ASSERT_STRING_EQUAL(notes, "");
    CU_ASSERT_EQUAL(rig.n_conns, 0);
    end();
}

static void out_of_memory(void) {
    begin();
    struct guard_host_config cfg = config("api.test");
    host = add(&cfg);
    io_listener_close(&rig.listener); /* the test's own service must not be short of memory */
    bool more = true;
    for (long i = 0; more && i < 200; i++) {
        guard_host_remove(&host);
        host = add(&cfg); /* nothing of it is there yet */
        struct call *c = connection(1, GET("/x"));
        CU_ASSERT_PTR_NOT_NULL_FATAL(ht_buf_reserve(&c->body, 4096));
        c->body.data[0] = '\0';
        ht_mem_fail_at(i);
        UNTIL(c->closes || strstr(call_body(c), "\r\n\r\n"));
        more = !ht_mem_fail_pending();
        ht_mem_fail_at(-1);
        CU_ASSERT_PTR_NULL(strstr(call_body(c), CANARY));
        mux_stream_release(&c->st);
        settle();
        notes[0] = '\0';
    }
    CU_ASSERT(!more);
    UNTIL(n_begun == n_ended); /* whatever was missing: what was begun was told to its end */
    CU_ASSERT(n_begun > 0);
    end();
}

/* The program in the container goes away in the middle. */
static void who_leaves_is_told_of(void) {
    begin();
    struct guard_host_config cfg = config("api.test");
    host = add(&cfg);
    struct call *c = connection(1, GET("/slow"));
    struct service_conn *s = service_wait(0, "/slow");
    service_says(s, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
    until_says(c, "half");
    mux_stream_reset(c->st, WIRE_CODE_CANCEL, "");
    mux_stream_release(&c->st);
    UNTIL(n_ended == 1);
    CU_ASSERT(strstr(notes, "end 1 200 0 4 ") != NULL);
    end();
}

int main(void) {
    static const struct tap_test tests[] = {
        {"a request gets its secret", a_request_gets_its_secret},
        {"what is refused is never near the service", what_is_refused_is_never_near_the_service},
        {"no second request can be smuggled in", nothing_is_smuggled},
        {"a placeholder is for one host", a_placeholder_is_for_one_host},
        {"no secret goes out in the clear", no_secret_goes_out_in_the_clear},
        {"a request that the audit cannot record is refused", what_cannot_be_noted_is_refused},
        {"no audit event contains a secret", no_note_holds_a_secret},
        {"without its secret a request is refused", a_secret_that_goes_away},
        {"a request waits for the command's first answer", a_command_is_awaited},
        {"a failed command refuses requests and is reported", a_command_that_fails},
        {"TLS is ended here", tls_is_ended_here},
        {"a program that does not trust the certificate is reported", who_does_not_trust_is_told_of},
        {"bodies stream both ways", bodies_stream_both_ways},
        {"removing a host ends its requests", a_host_is_taken_away},
        {"a program that leaves in the middle is reported", who_leaves_is_told_of},
        {"programs that send nothing are dropped, and cannot take all places", slow_programs},
        {"the time of programs stands still while their link is away", programs_whose_link_is_away},
        {"a head has room for the fields of the policy", huge_heads},
        {"each allocation may fail", out_of_memory},
        {NULL, NULL},
    };
    return tap_main("guard", tests);
}
