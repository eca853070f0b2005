/*
 * The most heap that each of those who are not trusted can make a kit hold, in bytes, from the limits of the protocol
 * and the options of `serve`. Whoever sizes a container adds up what he allows:
 *
 *   kit_bound_total() = 1 MiB                                  the program and the blocks the loop keeps
 *                     + strangers     * kit_bound_socket()     --max-pre-auth-connections, and as many with a token
 *                     + 64            * kit_bound_client()     connections of the base listener that are no WebSocket
 *                     + live sessions * kit_bound_session()    --max-sessions
 *                     + as many       * kit_bound_parked()
 *                     + visitors without a stream * kit_bound_waiting()    --max-fds
 *                     + clients of the proxy * kit_bound_connect()         --connect-proxy; half of --max-fds, two each
 *
 * A buffer that grows doubles, so it takes at most twice what is in it; the one that grows just now lives beside its
 * successor, which is in the first line. tests/kit/test_bounds.c holds us to these, with the worst peers it can think
 * of. What the kernel holds in socket buffers is not ours and comes on top.
 */
#ifndef HT_KIT_BOUNDS_H
#define HT_KIT_BOUNDS_H

#include "base/base.h"
#include "http/http.h"
#include "io/io.h"
#include "kit/kit.h"
#include "mux/mux.h"
#include "relay/splice.h"
#include "wire_gen.h"

#define KIT_BOUND_GROWTH 2u
/* Structures: of a socket with its handshake, WebSocket, link and control frames; of a visitor with its stream. */
#define KIT_BOUND_FIXED 16384u
/* A chunked answer of single bytes carries 5 bytes of framing for each. */
#define KIT_BOUND_CHUNKED 6u
/* Answers of the base listener that do not depend on sessions: metrics and openapi.json are the longest. */
#define KIT_BOUND_ANSWER (128u * 1024u)
#define KIT_BOUND_ROW 512u    /* of a session or a binding in a list */
#define KIT_BOUND_CLIENTS 64u /* connections of the base listener: one more, and one gives way (door.c) */
/* With the longest label and host, and as many names and certificates as fit a frame. */
#define KIT_BOUND_WAITING_BIND (1024u + WIRE_LIMIT_MAX_PAYLOAD + WIRE_LIMIT_MAX_NAMES * sizeof(struct ht_slice))
#define KIT_BOUND_NAME 1024u                           /* registered, in two spellings, with its places in the index */
#define KIT_BOUND_NAME_ROW (WIRE_LIMIT_NAME_TEXT + 8u) /* in a list */
/* Fields behind a body: a request's while they come, an answer's while its end is awaited, and once more in the queue.
 */
#define KIT_BOUND_TRAILERS (3u * KIT_BOUND_GROWTH * HTTP_MAX_CHUNK_OVERHEAD)
#define KIT_BOUND_BACKLOG (64u * 1024u) /* of a reader of events */

/* A WebSocket, before HELLO or after it: a message that is not whole, and bytes that its peer does not read. */
static inline size_t kit_bound_socket(void) { return KIT_BOUND_FIXED + 2 * (size_t)IO_BLOCK; }

/* An HTTP connection of the base listener: a head that is not whole, or an answer that nobody reads. */
static inline size_t kit_bound_client(const struct opt_serve *o) {
    size_t rows = (size_t)2 * o->max_sessions * (1 + o->max_bindings_per_session);
    size_t names = (size_t)2 * o->max_sessions * o->max_names_per_session;
    return KIT_BOUND_FIXED + KIT_BOUND_GROWTH * (KIT_BOUND_ANSWER + rows * KIT_BOUND_ROW + names * KIT_BOUND_NAME_ROW);
}

/* A reader of events that does not keep up. */
static inline size_t kit_bound_reader(void) { return KIT_BOUND_FIXED + KIT_BOUND_GROWTH * (size_t)KIT_BOUND_BACKLOG; }

/* A visitor whose request head is not whole yet, or who waits for the next turn: no stream, nothing of the driver's. */
static inline size_t kit_bound_waiting(void) {
    return KIT_BOUND_FIXED + KIT_BOUND_GROWTH * (size_t)WIRE_LIMIT_MAX_HEAD;
}

/* An HTTP visitor who does not read: what the driver's credit for one stream lets through, at its worst framing. */
static inline size_t kit_bound_visitor(const struct opt_serve *o) {
    return kit_bound_waiting() + KIT_BOUND_TRAILERS +
           KIT_BOUND_GROWTH * KIT_BOUND_CHUNKED * (size_t)o->stream_initial_window;
}

/* A pulled connection, or an upgraded one, that does not read. */
static inline size_t kit_bound_pull(const struct opt_serve *o) {
    return KIT_BOUND_FIXED + KIT_BOUND_GROWTH * (size_t)o->stream_initial_window;
}

/* What a session has registered: names, and the certificates beside them. */
static inline size_t kit_bound_names(const struct opt_serve *o) {
    return (size_t)o->max_names_per_session * KIT_BOUND_NAME + (size_t)o->max_bindings_per_session * WIRE_LIMIT_MAX_CA;
}

/*
 * A session with all of its sockets and visitors. However many visitors stall, the driver's credit for the session ends
 * at --session-buffer, beyond which it has one window more.
 */
static inline size_t kit_bound_session(const struct opt_serve *o) {
    size_t held = (size_t)o->session_buffer + o->session_initial_window;
    size_t all = (size_t)o->max_streams_per_session * o->stream_initial_window;
    return (size_t)o->max_connections * kit_bound_socket() + KIT_BOUND_GROWTH * (size_t)(2 * MUX_QUEUE_MAX) +
           MUX_TRAILERS_MAX + (size_t)o->max_bindings_per_session * KIT_BOUND_WAITING_BIND + kit_bound_names(o) +
           (size_t)o->max_streams_per_session * (kit_bound_waiting() + KIT_BOUND_TRAILERS) +
           KIT_BOUND_GROWTH * KIT_BOUND_CHUNKED * ht_min(held, all);
}

/* A session without a driver: its record and its listeners. */
static inline size_t kit_bound_parked(const struct opt_serve *o) {
    return KIT_BOUND_FIXED + (size_t)o->max_bindings_per_session * 4096 + kit_bound_names(o);
}

/* A client of the CONNECT proxy whose destination, or who itself, does not read; one with a stream is in its session.
 */
static inline size_t kit_bound_connect(void) {
    return KIT_BOUND_FIXED + KIT_BOUND_GROWTH * ((size_t)WIRE_LIMIT_MAX_HEAD + 2 * RELAY_SPLICE_READ);
}

/* What requests with http:// URLs to the proxy hold together: both ends of a session in memory. */
static inline size_t kit_bound_plain(unsigned clients) {
    return (size_t)2 * WIRE_LIMIT_SESSION_BUFFER + clients * KIT_BOUND_FIXED;
}

static inline size_t kit_bound_total(const struct opt_serve *o, unsigned visitors) {
    return ((size_t)1 << 20) + (size_t)2 * o->max_pre_auth_connections * kit_bound_socket() +
           KIT_BOUND_CLIENTS * kit_bound_client(o) +
           /* 2: as many that were handed over may still finish their streams */
           (size_t)o->max_sessions * (2 * kit_bound_session(o) + kit_bound_parked(o)) + visitors * kit_bound_waiting() +
           (o->set_connect_proxy ? visitors / 4 * kit_bound_connect() + kit_bound_plain(visitors / 4) : 0);
}

#endif
