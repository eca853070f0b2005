/*
 * Drivers, visitors and admin clients that use no heap, so that only the kit is hit by an allocation that fails. They
 * speak in one go: each call sends, lets the kit run, and takes what has come.
 */
#ifndef HT_TESTS_KIT_NOHEAP_H
#define HT_TESTS_KIT_NOHEAP_H

#include "peer.h"

#include <netinet/tcp.h>

enum { DRIVER, SECOND, OTHER, VISITOR, LATE, ADMIN, READER, N_CLIENTS };

static struct {
    int fd;
    size_t n;
    bool eof;
    char text[1 << 18];
} c[N_CLIENTS];

static bool kit_runs; /* what happens now is the kit's (or our driver's) doing, not that of the clients here */

static inline void few_turns(void) {
    kit_runs = true;
    for (int i = 0; i < 12; i++)
        io_loop_turn(host.loop, false);
    kit_runs = false;
}

/* For what takes its time. */
static inline void patient_turn(void) {
    struct pollfd p = {.fd = io_loop_fd(host.loop), .events = POLLIN};
    (void)poll(&p, 1, 5);
    few_turns();
}

static inline void take(int who) {
    while (!c[who].eof && c[who].n < sizeof c[who].text - 1) {
        ssize_t n = recv(c[who].fd, c[who].text + c[who].n, sizeof c[who].text - 1 - c[who].n, MSG_DONTWAIT);
        if (n > 0)
            c[who].n += (size_t)n;
        else if (n == 0 || errno != EAGAIN)
            c[who].eof = true;
        else
            break;
    }
    c[who].text[c[who].n] = '\0';
}

/* `slow`: a small window, in segments small enough for it, so that the kit soon has to wait. */
static inline void dial_as(int who, uint16_t port, bool slow) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    c[who].n = 0;
    c[who].text[0] = '\0';
    c[who].fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    /* What is said is there at once, whatever has been acknowledged of it. */
    setsockopt(c[who].fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    if (slow) {
        setsockopt(c[who].fd, IPPROTO_TCP, TCP_MAXSEG, &(int){1400}, sizeof(int));
        setsockopt(c[who].fd, SOL_SOCKET, SO_RCVBUF, &(int){8192}, sizeof(int));
    }
    c[who].eof = c[who].fd < 0 || connect(c[who].fd, (struct sockaddr *)&a, sizeof a) != 0;
}

static inline void dial(int who, uint16_t port) { dial_as(who, port, false); }

/* Sends and gives the kit time to answer; false when the connection is over. */
static inline bool say(int who, const void *bytes, size_t n) {
    const char *p = bytes;
    for (int tries = 0; n > 0 && !c[who].eof && tries < 200; tries++) {
        ssize_t sent = send(c[who].fd, p, n, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0 && errno != EAGAIN)
            c[who].eof = true;
        p += sent > 0 ? sent : 0;
        n -= sent > 0 ? (size_t)sent : 0;
        few_turns();
        take(who);
    }
    return !c[who].eof && n == 0;
}

static inline bool say_text(int who, const char *text) { return say(who, text, strlen(text)); }

static inline void hang_up(int who) {
    if (c[who].fd >= 0)
        close(c[who].fd);
    c[who].fd = -1;
    few_turns();
}

static inline void hang_up_all(void) {
    for (int who = 0; who < N_CLIENTS; who++)
        hang_up(who);
}

/* One frame in one message, masked with zeros (RFC 6455 5.2). */
static inline bool say_bytes(int who, uint8_t type, uint32_t stream_id, const void *payload, size_t len) {
    static uint8_t m[70000];
    size_t n = WIRE_LIMIT_HEADER + len, at = 2;
    memset(m, 0, 14);
    m[0] = 0x82;
    m[1] = (uint8_t)(0x80 | (n < 126 ? n : n < 65536 ? 126 : 127));
    unsigned ext = n < 126 ? 0 : n < 65536 ? 2 : 8;
    for (unsigned i = 0; i < ext; i++)
        m[at++] = (uint8_t)((uint64_t)n >> (8 * (ext - 1 - i)));
    at += 4;
    wire_encode_header(m + at, type, stream_id, (uint32_t)len);
    if (len)
        memcpy(m + at + WIRE_LIMIT_HEADER, payload, len);
    return say(who, m, at + n);
}

static inline bool say_frame(int who, uint8_t type, uint32_t stream_id, const char *json) {
    return say_bytes(who, type, stream_id, json, strlen(json));
}

/* Behind `word` in what a client has read; NULL: it is not there. */
static inline const char *heard(int who, const char *word) {
    take(who);
    const char *p = memmem(c[who].text, c[who].n, word, strlen(word));
    return p ? p + strlen(word) : NULL;
}

/* How many frames of a type came, counted by their headers: type and, unless it is 0, stream. */
static inline bool heard_frame(int who, uint8_t type, uint32_t id) {
    uint8_t h[5] = {type, (uint8_t)(id >> 24), (uint8_t)(id >> 16), (uint8_t)(id >> 8), (uint8_t)id};
    take(who);
    return memmem(c[who].text, c[who].n, h, sizeof h) != NULL;
}

static inline bool upgrade_as(int who, const char *protocol, const char *extra) {
    char request[512];
    snprintf(request, sizeof request,
             "GET " WIRE_CONNECT_PATH " HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
             "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
             "Sec-WebSocket-Protocol: %s\r\n%s\r\n",
             protocol, extra ? extra : "");
    dial(who, host.port);
    return say_text(who, request) && heard(who, " 101 ");
}

static inline bool come_in(int who, const char *hello) {
    bool v2 = strstr(hello, "tunnel.v2") != NULL;
    return upgrade_as(who, v2 ? WIRE_SUBPROTOCOL_V2 : WIRE_SUBPROTOCOL_V1, NULL) &&
           say_frame(who, WIRE_HELLO, 0, hello) && heard(who, "\"sessionId\":\"");
}

#define V1_HELLO "{\"version\":\"hoody-tunnel.v1\"}"

static inline bool session_id(int who, char id[64]) {
    const char *p = heard(who, "\"sessionId\":\"");
    snprintf(id, 39, "%s", p ? p : "");
    return p != NULL;
}

/* The port of the answer to a BIND, 0 when there is none. Forgets what was read before. */
static inline uint16_t bind_port(int who, const char *kind, unsigned port, bool takeover) {
    char text[160];
    bool http = strcmp(kind, "http") == 0;
    c[who].n = 0;
    snprintf(text, sizeof text, "{\"clientBindRef\":1,\"kind\":\"%s\",\"mode\":\"%s\",\"containerPort\":%u%s}", kind,
             http ? "expose" : "pull", port, takeover ? ",\"takeover\":true" : "");
    const char *p = say_frame(who, WIRE_BIND, 0, text) ? heard(who, "\"containerPort\":") : NULL;
    return p ? (uint16_t)strtoul(p, NULL, 10) : 0;
}

#define HEAD_OF(n) "{\"status\":200,\"headers\":[[\"content-length\",\"" n "\"]],\"final\":true}"

/*
 * Nobody may take a wrong answer for a right one: one with status 200 that is as long as it says is what the driver
 * said. False: it is.
 */
static inline bool answer_lies(int who, const char *body) {
    take(who);
    const char *head = c[who].text, *end = strstr(head, "\r\n\r\n");
    if (strncmp(head, "HTTP/1.1 200 ", 13) != 0 || !end)
        return false;
    const char *length = strcasestr(head, "content-length: ");
    size_t n = length && length < end ? strtoul(length + 16, NULL, 10) : SIZE_MAX;
    size_t got = c[who].n - (size_t)(end + 4 - head);
    return n <= got && (got != strlen(body) || memcmp(end + 4, body, got) != 0);
}

static inline bool answered(int who, const char *body) {
    take(who);
    const char *end = strstr(c[who].text, "\r\n\r\n");
    return strncmp(c[who].text, "HTTP/1.1 200 ", 13) == 0 && end && strcmp(end + 4, body) == 0;
}

#endif
