/*
 * How much heap memory, in bytes, each kind of untrusted peer can make a kit hold at most. The bounds follow from the
 * limits of the protocol and the options of `serve`. To size a container, add them up:
 *
 *   kit_bound_total() = 1 MiB                                  the program and the blocks the loop keeps
 *                     + kit_bound_tls()                        with --tls-cert or --tls-self-signed
 *                     + kit_bound_page()                       what is kept for the status page
 *                     + kit_bound_elders()                     after a restart: what old programs still have
 *                     + kit_bound_records()                    while records of sessions are written or read
 *                     + strangers     * kit_bound_socket()     --max-pre-auth-connections, and as many with a token
 *                     + 64            * kit_bound_client()     connections of the base listener without a WebSocket
 *                     + live sessions * kit_bound_session()    --max-sessions
 *                     + as many       * kit_bound_away()       --replay-buffer 0: kit_bound_parked()
 *                     + visitors without a stream * kit_bound_waiting()    --max-fds
 *                     + clients of the proxy * kit_bound_connect()         --connect-proxy; half of --max-fds, two each
 *
 * A growing buffer doubles, so it is at most twice as large as its content. While a short one grows the old and the new
 * buffer exist together; the first line covers that. tests/kit/test_bounds.c and test_bounds_tls.c check the bounds
 * with the worst peers that they know. Socket buffers of the kernel are not included.
 */
#ifndef HT_KIT_BOUNDS_H
#define HT_KIT_BOUNDS_H

#include "admin/admin.h"
#include "base/base.h"
#include "http/http.h"
#include "io/io.h"
#include "kit/kit.h"
#include "mux/mux.h"
#include "relay/splice.h"
#include "wire_gen.h"

#define KIT_BOUND_GROWTH 2u
/* Structures of fixed size: of a socket with handshake, WebSocket, link and control frames; or of a visitor with its
 * stream. */
#define KIT_BOUND_FIXED 16384u
/* In a chunked answer with one byte per chunk each byte takes 6, with its framing. */
#define KIT_BOUND_CHUNKED 6u
/* The part of an answer of the base listener that does not depend on the number of sessions. The longest is that of
 * /status, with its events and QR codes. */
#define KIT_BOUND_ANSWER (ADMIN_EVENTS_KEPT * KIT_BOUND_EVENT + ADMIN_QR_MAX * KIT_BOUND_CODE)
#define KIT_BOUND_EVENT 4096u     /* each byte of a text may become six in JSON */
#define KIT_BOUND_CODE 4096u      /* the QR code of the longest URL: 109 rows of 28 hexadecimal digits */
#define KIT_BOUND_ROW 1536u       /* of a session with its traffic, or of a binding with its URL and label, in a list */
#define KIT_BOUND_CLIENTS 64u     /* connections of the base listener; for one more, one is closed (base_accept.c) */
#define KIT_BOUND_HANDSHAKES 512u /* TLS handshakes of visitors; for one more, one is cut (public.c) */
/* OpenSSL's structures for a connection, and its buffers: incomplete records, and bytes that were read ahead. */
#define KIT_BOUND_TLS (128u * 1024u)
#define KIT_BOUND_PROXIED 256u /* connections whose PROXY header is awaited; for one more, the oldest is closed */
/* With the longest label and host, and as many names and certificates as fit a frame. */
#define KIT_BOUND_WAITING_BIND (1024u + WIRE_LIMIT_MAX_PAYLOAD + WIRE_LIMIT_MAX_NAMES * sizeof(struct ht_slice))
#define KIT_BOUND_NAME 1024u                           /* a registered name with its entries in the index */
#define KIT_BOUND_NAME_ROW (WIRE_LIMIT_NAME_TEXT + 8u) /* a name in a list of the admin API */
/* Trailers: those of a request while they come, those of an answer until its end, and once more in the queue. */
#define KIT_BOUND_TRAILERS (3u * KIT_BOUND_GROWTH * HTTP_MAX_CHUNK_OVERHEAD)
#define KIT_BOUND_BACKLOG (64u * 1024u) /* unread events of one reader */

/* The messages that a session keeps until its driver has confirmed them, and how far beyond --replay-buffer they may
 * go: what is no DATA goes on for a while, and each connection has a message that is being sent. */
static inline uint32_t kit_replay_buffer(const struct opt_serve *o) {
    return (uint32_t)(o->set_replay_buffer ? o->replay_buffer : ht_max(o->max_window, WIRE_LIMIT_MIN_REPLAY_BUFFER));
}

static inline size_t kit_bound_replay(const struct opt_serve *o) {
    size_t beyond = MUX_KEPT_MORE + (size_t)2 * o->max_connections * IO_BLOCK;
    return kit_replay_buffer(o) ? kit_replay_buffer(o) + beyond : 0;
}

/* A WebSocket, before or after HELLO: an incomplete message, and bytes that the peer does not read. */
static inline size_t kit_bound_socket(void) { return KIT_BOUND_FIXED + 2 * (size_t)IO_BLOCK; }

/* An HTTP connection of the base listener: an incomplete head, or an answer that the client does not read. */
static inline size_t kit_bound_client(const struct opt_serve *o) {
    size_t rows = (size_t)2 * o->max_sessions * (1 + o->max_bindings_per_session);
    size_t names = (size_t)2 * o->max_sessions * o->max_names_per_session;
    return KIT_BOUND_FIXED + KIT_BOUND_GROWTH * (KIT_BOUND_ANSWER + rows * KIT_BOUND_ROW + names * KIT_BOUND_NAME_ROW);
}

/* A reader of events that reads too slowly. */
static inline size_t kit_bound_reader(void) { return KIT_BOUND_FIXED + KIT_BOUND_GROWTH * (size_t)KIT_BOUND_BACKLOG; }

/* A visitor without a stream, whose request head is incomplete or who waits for its turn. */
static inline size_t kit_bound_waiting(void) {
    return KIT_BOUND_FIXED + KIT_BOUND_GROWTH * (size_t)WIRE_LIMIT_MAX_HEAD;
}

/* How far the window of a stream grows, within what its session may hold. */
static inline size_t kit_bound_window(const struct opt_serve *o) {
    return ht_max(o->stream_initial_window, ht_min(o->max_window, o->session_buffer + o->session_initial_window));
}

/* An HTTP visitor that does not read: all bytes that the credit of one stream allows, with the worst framing. */
static inline size_t kit_bound_visitor(const struct opt_serve *o) {
    return kit_bound_waiting() + KIT_BOUND_TRAILERS + KIT_BOUND_GROWTH * KIT_BOUND_CHUNKED * kit_bound_window(o);
}

/* A visitor of a PULL port, or an upgraded one, that does not read. */
static inline size_t kit_bound_pull(const struct opt_serve *o) {
    return KIT_BOUND_FIXED + KIT_BOUND_GROWTH * kit_bound_window(o);
}

/* The registered names of a session, and the certificates with them. */
static inline size_t kit_bound_names(const struct opt_serve *o) {
    return (size_t)o->max_names_per_session * KIT_BOUND_NAME + (size_t)o->max_bindings_per_session * WIRE_LIMIT_MAX_CA;
}

/*
 * A session with all of its sockets and visitors. However many visitors do not read, the driver can send at most
 * --session-buffer and one --session-initial-window: what a window gains up to --max-window, the buffer loses.
 */
static inline size_t kit_bound_session(const struct opt_serve *o) {
    size_t held = (size_t)o->session_buffer + o->session_initial_window;
    size_t all = (size_t)o->max_streams_per_session * kit_bound_window(o);
    return (size_t)o->max_connections * kit_bound_socket() + KIT_BOUND_GROWTH * (size_t)(2 * MUX_QUEUE_MAX) +
           MUX_TRAILERS_MAX + (size_t)o->max_bindings_per_session * KIT_BOUND_WAITING_BIND + kit_bound_names(o) +
           (size_t)o->max_streams_per_session * (kit_bound_waiting() + KIT_BOUND_TRAILERS) + kit_bound_replay(o) +
           KIT_BOUND_GROWTH * KIT_BOUND_CHUNKED * ht_min(held, all);
}

/* A parked session: its record and its listeners. */
static inline size_t kit_bound_parked(const struct opt_serve *o) {
    return KIT_BOUND_FIXED + (size_t)o->max_bindings_per_session * 4096 + kit_bound_names(o);
}

/* A parked session whose streams wait for its driver. Visitors who wait beside them count as all without a stream. */
static inline size_t kit_bound_away(const struct opt_serve *o) {
    return kit_bound_parked(o) + (kit_replay_buffer(o) ? kit_bound_session(o) : 0);
}

/* A client of the CONNECT proxy, when it or its destination does not read. A client with a stream counts in a session.
 */
static inline size_t kit_bound_connect(void) {
    return KIT_BOUND_FIXED + KIT_BOUND_GROWTH * ((size_t)WIRE_LIMIT_MAX_HEAD + 2 * RELAY_SPLICE_READ);
}

/* All requests with http:// URLs to the proxy together: both ends of a session in memory (relay/inner.h). */
static inline size_t kit_bound_plain(unsigned clients) {
    return (size_t)2 * WIRE_LIMIT_SESSION_BUFFER + clients * KIT_BOUND_FIXED;
}

/* After a restart: how many sessions of old programs the kit remembers, and what that and the connections to them take.
 */
static inline unsigned kit_bound_pasts(const struct opt_serve *o) { return 4 * o->max_sessions; }

/* Connections to old programs that the kit has made TLS with (past.c); each has two more descriptors. */
static inline unsigned kit_bound_spliced(const struct opt_serve *o) {
    return o->n_tls_cert || o->tls_self_signed ? 4 * o->max_sessions : 0;
}

static inline size_t kit_bound_elders(const struct opt_serve *o) {
    size_t spliced = KIT_BOUND_FIXED + KIT_BOUND_GROWTH * (size_t)2 * RELAY_SPLICE_READ + KIT_BOUND_TLS;
    return (size_t)kit_bound_pasts(o) * 256u + kit_bound_spliced(o) * spliced;
}

/* The text of the records of all sessions, live and parked: session, bindings, and their hostnames and certificates
 * with each newline as two characters; names. */
static inline size_t kit_bound_record_text(const struct opt_serve *o) {
    size_t binding =
        KIT_BOUND_ROW + (size_t)WIRE_LIMIT_MAX_HOSTNAMES * (WIRE_LIMIT_NAME_HOST + 40u) + (size_t)2 * WIRE_LIMIT_MAX_CA;
    return (size_t)2 * o->max_sessions *
           (1024u + (size_t)o->max_bindings_per_session * binding +
            (size_t)o->max_names_per_session * (WIRE_LIMIT_NAME_TEXT + 40u));
}

/* Written, the lines become a whole, and that a whole with its first line. Read, there are the file, a copy, and what
 * it says. */
static inline size_t kit_bound_records(const struct opt_serve *o) {
    return 2 * KIT_BOUND_GROWTH * kit_bound_record_text(o);
}

/* The latest events, and the QR codes of the last answer. */
static inline size_t kit_bound_page(void) {
    return (size_t)ADMIN_EVENTS_KEPT * KIT_BOUND_EVENT + (size_t)ADMIN_QR_MAX * 2 * KIT_BOUND_CODE;
}

/* All connections of the kit, when they speak TLS. */
static inline size_t kit_bound_tls(const struct opt_serve *o, unsigned visitors) {
    size_t all = (size_t)visitors + KIT_BOUND_CLIENTS + (size_t)2 * o->max_pre_auth_connections +
                 (size_t)o->max_sessions * o->max_connections;
    return o->n_tls_cert || o->tls_self_signed ? all * KIT_BOUND_TLS : 0;
}

static inline size_t kit_bound_total(const struct opt_serve *o, unsigned visitors) {
    return ((size_t)1 << 20) + kit_bound_tls(o, visitors) + kit_bound_page() + kit_bound_elders(o) +
           kit_bound_records(o) + (size_t)2 * o->max_pre_auth_connections * kit_bound_socket() +
           KIT_BOUND_CLIENTS * kit_bound_client(o) + (o->n_proxy_protocol ? KIT_BOUND_PROXIED * KIT_BOUND_FIXED : 0) +
           /* 2: each session may have an older one, handed over, that finishes its streams */
           (size_t)o->max_sessions * (2 * kit_bound_session(o) + kit_bound_away(o)) + visitors * kit_bound_waiting() +
           (o->set_connect_proxy ? visitors / 4 * kit_bound_connect() + kit_bound_plain(visitors / 4) : 0);
}

#endif
