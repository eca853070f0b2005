/*
 * Sessions whose streams a kit before this one has (RHAND-7). Their drivers dial this kit's address when their link is
 * lost, so what they dial is handed to that kit: the socket itself, or, when this kit has made TLS with it, one end of
 * a socket pair, whose other end is spliced to it here.
 */
#include "kit/bounds.h"
#include "kit/handoff.h"
#include "kit/kit_priv.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "log_gen.h"
#include "proc/seal.h"
#include "relay/splice.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#define HALF_CLOSED_MS 5000 /* longer than a closing handshake takes */

/* ---- which sessions ---- */

struct kit_past {
    struct ht_list node; /* in kit.pasts, oldest first */
    struct kit_elder *elder;
    unsigned number; /* before it is known: of the elder, as in RESTART_PAST */
    bool has_token;
    uint8_t token[KIT_DIGEST];
    char id[KIT_ID_LEN];
};

static void forget(struct kit *k, struct kit_past *p) {
    ht_list_remove(&p->node);
    k->n_pasts--;
    ht_free(p);
}

void past_add(struct kit *k, const struct restart_message *m) {
    if (m->session.n != KIT_ID_LEN || (m->token.n && m->token.n != KIT_DIGEST) || past_find(k, m->session))
        return;
    if (k->n_pasts >= kit_bound_pasts(k->opt)) {
        ht_warn("kit", "restart: more sessions of old programs than this one remembers; the oldest cannot go on when "
                       "its link is lost");
        forget(k, HT_LIST_ENTRY(k->pasts.next, struct kit_past, node));
    }
    struct kit_past *p = ht_calloc(1, sizeof *p);
    if (!p) /* its streams are cut when its link is lost, as if there was no stream-resume */
        return;
    memcpy(p->id, m->session.p, sizeof p->id);
    p->has_token = m->token.n > 0;
    if (p->has_token)
        memcpy(p->token, m->token.p, sizeof p->token);
    p->number = m->elder;
    ht_list_init(&p->node);
    ht_list_push_back(&k->pasts, &p->node);
    k->n_pasts++;
}

void past_settle(struct kit *k, unsigned number, struct kit_elder *e) {
    HT_LIST_FOR_SAFE (it, &k->pasts) {
        struct kit_past *p = HT_LIST_ENTRY(it, struct kit_past, node);
        if (p->elder || p->number != number)
            continue;
        p->elder = e;
    }
}

struct kit_past *past_find(struct kit *k, struct ht_slice id) {
    HT_LIST_FOR (it, &k->pasts) {
        struct kit_past *p = HT_LIST_ENTRY(it, struct kit_past, node);
        if (ht_const_time_eq(p->id, sizeof p->id, id.p, id.n))
            return p;
    }
    return NULL;
}

bool past_is_of(struct kit *k, const struct kit_past *p, const struct kit_user *user) {
    const struct kit_user *nobody = kit_user_of_nobody(k);
    const struct kit_pass *pass = p->has_token ? kit_pass_of_digest(k, p->token) : NULL;
    return user && user == (nobody ? nobody : pass ? pass->user : NULL);
}

void past_over(struct kit *k, const struct kit_elder *e, struct ht_slice id) {
    struct kit_past *p = past_find(k, id);
    if (p && p->elder == e)
        forget(k, p);
}

void past_forget(struct kit *k, const struct kit_elder *e) {
    HT_LIST_FOR_SAFE (it, &k->pasts) {
        struct kit_past *p = HT_LIST_ENTRY(it, struct kit_past, node);
        if (p->elder == e)
            forget(k, p);
    }
}

void past_each(const struct kit *k, void (*each)(void *ctx, const struct restart_message *m), void *ctx) {
    HT_LIST_FOR (it, &k->pasts) {
        const struct kit_past *p = HT_LIST_ENTRY(it, struct kit_past, node);
        struct restart_message m = {
            .type = RESTART_PAST,
            .session = ht_slice_of(p->id, sizeof p->id),
            .token = ht_slice_of(p->has_token ? p->token : NULL, p->has_token ? sizeof p->token : 0),
            .elder = p->elder->number,
        };
        each(ctx, &m);
    }
}

/* ---- connections that this kit made TLS with ---- */

struct kit_spliced {
    struct ht_list node; /* in kit.spliced */
    struct kit *kit;
    struct relay_splice *splice;
};

static void spliced_free(struct kit_spliced *s) {
    struct kit *k = s->kit;
    ht_list_remove(&s->node);
    k->n_spliced--;
    relay_splice_destroy(&s->splice);
    ht_free(s);
    if (k->leaving || k->draining)
        kit_reap_later(k);
}

static void splice_done(void *ctx, int rc, const char *text) {
    struct kit_spliced *s = ctx;
    ht_debug("kit", "a connection to an old program has ended%s%s", rc ? ": " : "", rc ? text : "");
    spliced_free(s);
}

static const struct relay_splice_ops splice_ops = {.done = splice_done};

void past_cut(struct kit *k) {
    while (!ht_list_empty(&k->spliced))
        spliced_free(HT_LIST_ENTRY(k->spliced.next, struct kit_spliced, node));
}

/* Owns both. */
static void splice(struct kit *k, struct io_conn *outside, int fd) {
    const struct relay_splice_config cfg = {.loop = k->loop, .half_close_timeout_ms = HALF_CLOSED_MS};
    struct io_conn *inside = io_conn_adopt(k->loop, fd, NULL, NULL);
    struct kit_spliced *s = inside ? ht_calloc(1, sizeof *s) : NULL;
    struct io_out nothing = {.n_iov = 0};
    if (!s) {
        io_conn_abort(&inside);
        io_conn_abort(&outside);
        return;
    }
    s->kit = k;
    ht_list_init(&s->node);
    ht_list_push_back(&k->spliced, &s->node);
    k->n_spliced++;
    s->splice = relay_splice_start(&cfg, outside, inside, ht_slice_of(NULL, 0), &nothing, &splice_ops, s);
    if (!s->splice)
        spliced_free(s);
}

/* ---- handing over ---- */

/* What a sock waits with for the end of the turn, when nobody uses its WebSocket. */
struct kit_hand {
    struct ht_buf said; /* the first message, as a frame; then what was read behind it */
    uint8_t token[KIT_DIGEST];
    size_t n_token;
    bool join;
    char id[KIT_ID_LEN];
};

void past_drop_hand(struct kit_sock *sock) {
    if (!sock->hand)
        return;
    ht_buf_free(&sock->hand->said);
    ht_free(sock->hand);
    sock->hand = NULL;
}

/* `frame`: with the first message of the driver. */
static bool begin(struct kit_sock *sock, const struct kit_past *p, const struct kit_pass *pass, const uint8_t *frame,
                  int n, bool join) {
    struct kit *k = sock->kit;
    struct kit_hand *h = n > 0 ? ht_calloc(1, sizeof *h) : NULL;
    if (!h || ws_frame_of_client(&h->said, frame, (size_t)n) < 0) {
        ht_free(h);
        return false;
    }
    if (pass) {
        memcpy(h->token, pass->digest, sizeof h->token);
        h->n_token = sizeof h->token;
    }
    h->join = join;
    memcpy(h->id, p->id, sizeof h->id);
    past_drop_hand(sock);
    sock->hand = h;
    ws_conn_pause(sock->ws, true);
    io_task_add(k->loop, &k->hand_task);
    return true;
}

bool past_hand_hello(struct kit_sock *sock, const struct kit_past *p, const struct kit_pass *pass,
                     const struct wire_hello *hello) {
    uint8_t *frame = ht_malloc(WIRE_LIMIT_MAX_PREAUTH_MESSAGE);
    struct wire_hello h = *hello;
    h.has_auth = false; /* it was checked, and the other kit learns the token's digest */
    h.has_client = h.has_client && h.client.id.n > 0;
    int n = frame ? wire_encode_hello(frame, WIRE_LIMIT_MAX_PREAUTH_MESSAGE, 0, &h) : HT_ENOMEM;
    bool begun = begin(sock, p, pass, frame, n, false);
    if (frame)
        explicit_bzero(frame, WIRE_LIMIT_MAX_PREAUTH_MESSAGE); /* with the client's id */
    ht_free(frame);
    return begun;
}

bool past_hand_join(struct kit_sock *sock, const struct kit_past *p, const struct wire_join *join) {
    uint8_t *frame = ht_malloc(WIRE_LIMIT_MAX_PREAUTH_MESSAGE);
    int n = frame ? wire_encode_join(frame, WIRE_LIMIT_MAX_PREAUTH_MESSAGE, 0, join) : HT_ENOMEM;
    bool begun = begin(sock, p, sock->pass, frame, n, true);
    ht_free(frame);
    return begun;
}

static int send_to(const struct kit_elder *e, const struct kit_sock *sock, int fd) {
    const struct kit_hand *h = sock->hand;
    struct ht_errmsg err;
    char host[IO_ADDR_TEXT];
    struct restart_message m = {
        .type = RESTART_HAND,
        .session = ht_slice_of(h->id, sizeof h->id),
        .token = ht_slice_of(h->token, h->n_token),
        .address = ht_slice_str(io_addr_host(&sock->from, host)),
        .port = io_addr_port(&sock->from),
        .version = sock->version,
    };
    int said = proc_seal("hoody-tunnel-said", ht_buf_slice(&h->said), &err);
    if (said < 0)
        return said;
    int rc = handoff_send(e->fd, &m, (int[]){fd, said}, 2, 0);
    close(said);
    return rc;
}

/* 0: `sock` has no WebSocket any more. Otherwise nothing has changed. */
static int hand(struct kit_sock *sock) {
    struct kit *k = sock->kit;
    struct kit_past *p = past_find(k, ht_slice_of(sock->hand->id, sizeof sock->hand->id));
    int pair[2] = {-1, -1};
    if (!p || !p->elder)
        return HT_ECLOSED;
    if (sock->tls && k->n_spliced >= kit_bound_spliced(k->opt))
        return HT_ELIMIT;
    int rc = ws_conn_unread(sock->ws, &sock->hand->said);
    if (rc == HT_OK && sock->tls && socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) < 0)
        rc = ht_err_from_errno(errno);
    if (rc == HT_OK)
        rc = send_to(p->elder, sock, sock->tls ? pair[1] : io_conn_fd(ws_conn_io(sock->ws)));
    if (pair[1] >= 0)
        close(pair[1]);
    if (rc < 0) {
        if (pair[0] >= 0)
            close(pair[0]);
        return rc;
    }
    struct io_conn *conn = ws_conn_take(&sock->ws);
    if (sock->tls)
        splice(k, conn, pair[0]);
    else
        close(io_conn_release(&conn));
    return HT_OK;
}

static void hand_one(struct kit_sock *sock) {
    struct ht_slice id = ht_slice_of(sock->hand->id, sizeof sock->hand->id);
    int rc = hand(sock);
    if (rc == HT_OK) {
        ht_log_with(HT_LOG_INFO, "session", HT_LOG_FIELDS(log_session_slice(id), log_peer(sock->peer)),
                    "a connection of its driver goes to the program before, which has its streams");
        sock->kit->metrics.handed_connections_total++;
        sock_drop(sock);
        return;
    }
    ht_log_with(HT_LOG_WARN, "session",
                HT_LOG_FIELDS(log_session_slice(id), log_peer(sock->peer), log_reason(ht_err_text(rc))),
                "a connection of its driver could not be passed on to the program before");
    bool join = sock->hand->join;
    past_drop_hand(sock);
    if (join)
        join_refuse(sock, WIRE_JOIN_ERROR_INTERNAL, "the program before does not take the connection");
    else
        hello_busy(sock, "the program before, which has the streams, does not take the connection");
}

void past_hand_all(struct io_task *t) {
    struct kit *k = ht_container_of(t, struct kit, hand_task);
    HT_LIST_FOR_SAFE (it, &k->socks) {
        struct kit_sock *sock = HT_LIST_ENTRY(it, struct kit_sock, node);
        if (sock->hand && !sock->dead && !sock->closing)
            hand_one(sock);
    }
}
