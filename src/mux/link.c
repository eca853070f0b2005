#include "base/mem.h"
#include "mux/mux_priv.h"

/*
 * One for all links of a thread, there while any link is: 130 KiB each that no idle link should hold for itself. They
 * come from malloc, which hands out pages that nobody touched; a thread's own variables are all written when it starts.
 */
static _Thread_local struct {
    struct wire_scratch *scratch;
    uint8_t *text;
    unsigned users;
} shared;

struct wire_scratch *link_scratch(void) {
    return shared.scratch;
}

uint8_t *link_text(void) { return shared.text; }

static void scratch_free(void) {
    wire_scratch_destroy(&shared.scratch);
    ht_free(shared.text);
    shared.text = NULL;
}

static bool scratch_take(void) {
    if (shared.users == 0) {
        shared.scratch = wire_scratch_create();
        shared.text = ht_malloc(LINK_TEXT_SIZE);
        if (!shared.scratch || !shared.text) {
            scratch_free();
            return false;
        }
    }
    shared.users++;
    return true;
}

static void scratch_give(void) {
    if (--shared.users == 0)
        scratch_free();
}

struct mux_link *mux_link_create(enum wire_role role, enum wire_version version, const struct mux_link_ops *ops,
                                 void *ctx) {
    if (!scratch_take())
        return NULL;
    struct mux_link *l = ht_calloc(1, sizeof *l);
    if (!l) {
        scratch_give();
        return NULL;
    }
    l->ops = ops;
    l->ctx = ctx;
    l->version = version;
    l->refs = 1;
    l->assembler.role = role;
    l->assembler.version = version;
    l->assembler.state = role == WIRE_ROLE_KIT ? WIRE_LINK_AWAIT_HELLO : WIRE_LINK_AWAIT_HELLO_OK;
    ht_list_init(&l->fresh);
    ht_list_init(&l->ring);
    ht_list_init(&l->windows);
    ht_list_init(&l->batch);
    return l;
}

void link_unref(struct mux_link *l) {
    if (--l->refs > 0)
        return;
    ht_buf_free(&l->queue);
    ht_buf_free(&l->greeting);
    ht_free(l);
    scratch_give();
}

void link_wake(struct mux_link *l) {
    if (l->woken || l->destroyed)
        return;
    l->woken = true;
    l->ops->output(l->ctx);
}

void link_close(struct mux_link *l, uint16_t ws_code, const char *reason) {
    if (l->dead)
        return;
    l->dead = true;
    if (!l->destroyed)
        l->ops->close(l->ctx, ws_code, reason);
}

void link_attach(struct mux_link *l, struct mux_session *s, unsigned index) {
    l->s = s;
    l->rp = s->replay ? &s->replay[index] : NULL;
    l->index = index;
    l->asked = false;
    l->past_first = l->assembler.frames == 0; /* an answer that took its time */
    l->next_id = s->cfg.first_stream_id ? s->cfg.first_stream_id : 2;
    l->assembler.state = WIRE_LINK_OPEN;
    l->assembler.caps = s->cfg.caps;
    (void)wire_scratch_agreed(shared.scratch, l->version,
                              s->cfg.caps); /* for the rest of a message that is being fed */
    s->links[index] = l;
    s->n_links++;
}

void link_detach(struct mux_link *l) {
    struct mux_session *s = l->s;
    if (!s)
        return;
    s->links[l->index] = NULL;
    l->s = NULL;
    l->rp = NULL;
    if (!l->away) {
        s->n_links--;
        return;
    }
    s->n_away--;
    l->away = false;
    link_drop_output(l);
    link_unref(l);
}

void link_drop_output(struct mux_link *l) {
    ht_buf_free(&l->queue);
    ht_buf_free(&l->greeting);
    l->n_pongs = 0;
}

void link_greet(struct mux_link *l) {
    if (ht_buf_size(&l->queue) == 0)
        ht_buf_free(&l->queue);
    l->greeting = l->queue;
    l->queue = (struct ht_buf){0};
}

/* ---- the handshake ---- */

static int hello_frame(struct mux_link *l, uint8_t type, const uint8_t *payload, size_t len, struct wire_error *err) {
    union wire_any any;
    /* The answer to the first frame may take its time, but a driver waits for it. */
    if (l->asked) {
        *err = (struct wire_error){
            .ws_close = WIRE_CLOSE_PROTOCOL_ERROR, .rule = "HELLO-1", .text = "a frame before the answer"};
        return HT_EPROTO;
    }
    int rc = wire_decode_any(type, payload, len, link_scratch(), &any, err);
    if (rc < 0)
        return rc;
    if (type == WIRE_HELLO && any.hello.version != l->version) {
        *err = (struct wire_error){
            .ws_close = WIRE_CLOSE_PROTOCOL_ERROR, .rule = "HELLO-2", .text = "not for this subprotocol"};
        return HT_EPROTO;
    }
    l->asked = true;
    if (type == WIRE_HELLO)
        l->ops->hello(l->ctx, &any.hello);
    else
        l->ops->join(l->ctx, &any.join);
    return 0;
}

static int answer_frame(struct mux_link *l, uint8_t type, const uint8_t *payload, size_t len, struct wire_error *err) {
    union wire_any any;
    int rc = wire_decode_any(type, payload, len, link_scratch(), &any, err);
    if (rc < 0)
        return rc;
    switch (type) {
    case WIRE_HELLO_OK:
        l->ops->hello_ok(l->ctx, &any.hello_ok);
        break;
    case WIRE_JOIN_OK:
        l->ops->join_ok(l->ctx, &any.join_ok);
        break;
    case WIRE_JOIN_ERR:
        l->ops->join_err(l->ctx, &any.join_err);
        break;
    default:
        l->ops->refused(l->ctx, &any.goaway);
        break;
    }
    return 0;
}

/* wire_check_rx() has let only frames of the handshake pass. */
static int handshake_frame(struct mux_link *l, uint8_t type, const uint8_t *payload, size_t len) {
    struct wire_error err = {0};
    int rc = l->assembler.role == WIRE_ROLE_KIT ? hello_frame(l, type, payload, len, &err)
                                                : answer_frame(l, type, payload, len, &err);
    if (rc < 0) /* HELLO-4; a driver that is answered with rubbish does the same */
        link_close(l, WIRE_CLOSE_PROTOCOL_ERROR, err.text);
    return rc;
}

/* ---- feeding ---- */

static int on_frame(void *ctx, uint8_t type, uint32_t id, const uint8_t *payload, size_t len) {
    struct mux_link *l = ctx;
    struct mux_session *s = l->s;
    int rc;
    if (!s) {
        rc = handshake_frame(l, type, payload, len);
    } else {
        session_ref(s);
        s->heard = true;
        rc = in_frame(s, l, type, id, payload, len);
        session_unref(s);
    }
    return l->dead ? resume_stopped(l, payload + len) : rc;
}

static int on_data(void *ctx, uint32_t id, const uint8_t *chunk, size_t n, uint32_t frame_len, bool first) {
    struct mux_link *l = ctx;
    struct mux_session *s = l->s;
    session_ref(s);
    s->heard = true;
    int rc = in_data(s, l, id, chunk, n, frame_len, first);
    session_unref(s);
    return l->dead ? resume_stopped(l, chunk + n) : rc;
}

ssize_t link_feed(struct mux_link *l, const uint8_t *p, size_t n, bool end, struct wire_error *err) {
    static const struct wire_asm_ops ops = {on_frame, on_data};
    return wire_asm_feed(&l->assembler, p, n, end, &ops, l, err);
}

ssize_t mux_link_message(struct mux_link *l, const uint8_t *p, size_t n, bool end) {
    struct wire_error err = {.code = WIRE_CODE_PROTOCOL_ERROR, .ws_close = WIRE_CLOSE_PROTOCOL_ERROR};
    if (l->dead)
        return (ssize_t)n;
    link_ref(l);
    (void)wire_scratch_agreed(shared.scratch, l->version, l->s ? l->assembler.caps : ~0u);
    ssize_t used = l->rp ? resume_feed(l, p, n, end, &err) : link_feed(l, p, n, end, &err);
    if (used >= 0 && l->rp)
        resume_came(l, (size_t)used, end);
    if (used < 0 && !l->dead) {
        if (l->s)
            (void)session_violation(l->s, err.code, err.ws_close, err.text);
        else
            link_close(l, err.ws_close, err.text);
    }
    if (l->dead)
        used = HT_ECLOSED;
    link_unref(l);
    return used;
}

void mux_link_fed(struct mux_link *l) {
    struct ht_list *node;
    link_ref(l);
    while ((node = ht_list_pop_front(&l->batch))) {
        struct mux_stream *st = HT_LIST_ENTRY(node, struct mux_stream, batch);
        st->batch_of = NULL;
        stream_ref(st);
        if (st->ops && st->ops->data_end)
            st->ops->data_end(st->ctx);
        stream_unref(st);
    }
    link_unref(l);
}

/* ---- the end ---- */

static void gone(struct mux_link *l, bool clean) {
    struct mux_session *s = l->s;
    link_ref(l);
    l->dead = true;
    if (!l->away && !(s && resume_wait(s, l, clean))) {
        link_drop_output(l);
        if (s)
            session_link_gone(s, l, clean);
    }
    link_unref(l);
}

void mux_link_closed(struct mux_link *l, bool clean) { gone(l, clean); }

void mux_link_destroy(struct mux_link **lp) {
    struct mux_link *l = lp ? *lp : NULL;
    if (!l)
        return;
    *lp = NULL;
    l->destroyed = true;
    gone(l, false);
    link_unref(l);
}

void mux_link_refuse(struct mux_link *l, const struct wire_goaway *goaway, uint16_t ws_code, const char *reason) {
    if (l->dead)
        return;
    /* A GOAWAY that cannot be queued is left out: the close code says the same. */
    if (goaway)
        (void)!out_session_frame(l, WIRE_GOAWAY, goaway);
    link_close(l, ws_code, reason);
}

void mux_link_refuse_join(struct mux_link *l, const struct wire_join_err *err) {
    if (l->dead)
        return;
    (void)!out_session_frame(l, WIRE_JOIN_ERR, err);
    link_close(l, WIRE_CLOSE_POLICY_VIOLATION, wire_join_error_text(err->code));
}

int mux_link_send_hello(struct mux_link *l, const struct wire_hello *hello) {
    l->assembler.state = WIRE_LINK_AWAIT_HELLO_OK;
    return out_session_frame(l, WIRE_HELLO, hello);
}

int mux_link_send_join(struct mux_link *l, const struct wire_join *join) {
    l->assembler.state = WIRE_LINK_AWAIT_JOIN_OK;
    return out_session_frame(l, WIRE_JOIN, join);
}
