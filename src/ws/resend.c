/*
 * Messages that are kept until the peer has acknowledged them, and sent again over another connection.
 *
 * There is no second copy: the block that a message is built in, and sent from, stays until everything in it is
 * acknowledged. What is known about a message stands in the block in front of it, so that keeping a message allocates
 * nothing and cannot fail once it was pulled. Messages of a client were masked where they lie: sent again they get
 * another mask, without being unmasked before.
 *
 * A block that a connection is writing from stays, and its bytes stay as they are: half of a message may be out, and
 * TLS may have taken bytes that it asks for again. So a connection that loses its kept takes a copy of what it was
 * about to send; whoever sends from the kept next may then mask anew.
 */
#include "base/mem.h"
#include "ws/ws_priv.h"

#include <assert.h>

/* In front of each message. The space behind it is for the longest header of a frame; the header ends where the message
 * begins. */
struct slot {
    uint32_t n; /* of the message */
    uint8_t header;
    bool kept;
};
#define SLOT (sizeof(struct slot) + WS_HEADER_MAX)

/* What a block begins with. */
struct block {
    struct ht_list node;
    uint64_t first;    /* number of the first kept message in it */
    uint32_t n;        /* kept messages in it */
    uint32_t end;      /* of the last message in it */
    uint32_t kept_end; /* of the last kept one: what lies behind was sent, and is not needed */
};
/* The rest of a block is left free: control frames go out before the messages of a batch, and together they must fit
 * into one block (take_along()). */
#define BLOCK_END (IO_BLOCK - 512u)

struct ws_kept {
    struct io_loop *loop;
    struct ws_conn *conn;  /* sends from it; NULL: none does */
    struct ht_list blocks; /* oldest first; messages are appended to the last one */
    size_t n_blocks;
    uint64_t last, forgotten;
    uint64_t resent;
    struct block *sending; /* the segments of `conn` lie in it; NULL: nowhere */
    bool keep;             /* the message that is being pulled is kept */
    bool pulling;          /* pull() is running */
    bool destroyed;        /* by the owner, in pull() */
    bool resends;          /* at `at`, `offset`, where message `number` is the next kept one; NULL: at the end */
    struct block *at;
    size_t offset;
    uint64_t number;
};

struct ws_kept *ws_kept_create(struct io_loop *loop) {
    struct ws_kept *k = ht_calloc(1, sizeof *k);
    if (!k)
        return NULL;
    k->loop = loop;
    ht_list_init(&k->blocks);
    return k;
}

size_t ws_kept_bytes(const struct ws_kept *k) { return k->n_blocks * IO_BLOCK; }

size_t ws_kept_full(const struct ws_kept *k) { return k && k->n_blocks > 0 ? (k->n_blocks - 1) * IO_BLOCK : 0; }

uint64_t ws_kept_last(const struct ws_kept *k) { return k->last; }

uint64_t ws_kept_resent(const struct ws_kept *k) { return k->resent; }

static uint8_t *bytes_of(struct block *b) { return (uint8_t *)b; }

static struct block *entry(struct ht_list *node) { return HT_LIST_ENTRY(node, struct block, node); }

/* Where the resending goes on: in block `node`, or nowhere when it is the list's head. */
static void resend_from(struct ws_kept *k, struct ht_list *node) {
    k->at = node == &k->blocks ? NULL : entry(node);
    k->resends = k->at != NULL;
    k->offset = sizeof(struct block);
    k->number = k->at ? k->at->first : 0;
}

static void drop_block(struct ws_kept *k, struct block *b) {
    if (b == k->at)
        resend_from(k, b->node.next);
    ht_list_remove(&b->node);
    k->n_blocks--;
    io_loop_put_block(k->loop, b);
}

static bool is_needed(const struct ws_kept *k, const struct block *b) {
    return b == k->sending || (b->n > 0 && b->first + b->n - 1 > k->forgotten);
}

/* Gives back the blocks that nobody needs: the oldest ones, and a last one for which there was no message to keep. */
static void settle(struct ws_kept *k) {
    while (!ht_list_empty(&k->blocks) && !is_needed(k, entry(k->blocks.next)))
        drop_block(k, entry(k->blocks.next));
    if (!ht_list_empty(&k->blocks) && !is_needed(k, entry(k->blocks.prev)))
        drop_block(k, entry(k->blocks.prev));
}

void ws_kept_forget(struct ws_kept *k, uint64_t count) {
    k->forgotten = ht_max(k->forgotten, ht_min(count, k->last));
    settle(k);
}

void ws_kept_written(struct ws_kept *k) {
    k->sending = NULL;
    settle(k);
}

/* ---- the connection comes and goes ---- */

/* Copies the segments that lie in the kept's block behind the control frames in the connection's own one. */
static bool take_along(struct ws_conn *w) {
    if (!w->send_block && !(w->send_block = ht_pool_get(io_loop_blocks(w->loop))))
        return false;
    for (unsigned i = w->seg_first; i < w->seg_end; i++) {
        if (!(w->seg[i].at & WS_IN_KEPT)) /* a control frame */
            continue;
        assert(w->seg[i].n <= IO_BLOCK - w->send_end);
        memcpy(w->send_block + w->send_end, ws_segment(w, i), w->seg[i].n);
        w->seg[i].at = (uint32_t)w->send_end;
        w->send_end += w->seg[i].n;
    }
    return true;
}

/* Half of a message may be out, and the rest is lost: nothing can follow. */
static void cut(struct ws_conn *w) {
    w->tx = WS_TX_DEAD;
    w->seg_first = w->seg_end = 0;
    io_timer_set(&w->timer, 0);
}

void ws_kept_leave(struct ws_conn *w) {
    struct ws_kept *k = w->kept;
    if (!k)
        return;
    bool unsent = w->seg_first < w->seg_end, ended = w->over || w->destroyed;
    w->silent = w->silent || k->resends || k->pulling;
    if (ended || k->pulling) /* nothing of a batch that is being built was written */
        w->seg_first = w->seg_end = 0;
    else if (unsent && k->sending && !take_along(w))
        cut(w);
    w->kept = NULL;
    k->conn = NULL;
    k->resends = false;
    k->at = NULL;
    if (!k->pulling)
        ws_kept_written(k);
}

void ws_conn_set_kept(struct ws_conn *w, struct ws_kept *k) {
    if (w->kept == k)
        return;
    ws_kept_leave(w);
    if (!k || w->over || w->destroyed)
        return;
    assert(w->limits.max_pull <= BLOCK_END - sizeof(struct block) - SLOT);
    if (k->conn)
        ws_kept_leave(k->conn);
    w->kept = k;
    k->conn = w;
}

static void destroy(struct ws_kept *k) {
    if (k->conn)
        ws_kept_leave(k->conn);
    while (!ht_list_empty(&k->blocks))
        drop_block(k, entry(k->blocks.next));
    ht_free(k);
}

void ws_kept_destroy(struct ws_kept **kp) {
    struct ws_kept *k = *kp;
    if (!k)
        return;
    *kp = NULL;
    if (k->pulling)
        k->destroyed = true;
    else
        destroy(k);
}

/* ---- new messages ---- */

void ws_conn_keep(struct ws_conn *w) {
    if (w->kept)
        w->kept->keep = true;
}

/* The block that the next message is appended to. NULL: out of memory. */
static struct block *open_block(struct ws_kept *k) {
    if (!ht_list_empty(&k->blocks)) {
        struct block *b = entry(k->blocks.prev);
        b->end = b->kept_end;
        if (BLOCK_END - b->end >= SLOT + WS_KEPT_CAP)
            return b;
    }
    struct block *b = ht_pool_get(io_loop_blocks(k->loop));
    if (!b)
        return NULL;
    b->first = b->n = 0;
    b->end = b->kept_end = sizeof *b;
    ht_list_init(&b->node);
    ht_list_push_back(&k->blocks, &b->node);
    k->n_blocks++;
    return b;
}

static void add_segment(struct ws_conn *w, struct block *b, size_t at, const struct slot *s) {
    w->kept->sending = b;
    w->kept_block = bytes_of(b);
    ws_add_segment(w, WS_IN_KEPT + at + SLOT - s->header, s->header + s->n);
}

/* A message of n bytes was built behind the block's end. */
static void append(struct ws_kept *k, struct block *b, struct ws_conn *w, size_t n) {
    uint8_t *at = bytes_of(b) + b->end;
    struct slot s = {.n = (uint32_t)n, .kept = k->keep, .header = (uint8_t)ws_frame(w, at + SLOT, n)};
    memcpy(at, &s, sizeof s);
    if (w->kept == k)
        add_segment(w, b, b->end, &s);
    b->end += (uint32_t)(SLOT + n);
    if (!k->keep)
        return;
    k->last++;
    if (b->n++ == 0)
        b->first = k->last;
    b->kept_end = b->end;
}

/* False: that was all, for now. */
static bool pull_message(struct ws_conn *w, struct ws_kept *k, struct block *b) {
    uint8_t *at = bytes_of(b) + b->end + SLOT;
    size_t cap = ht_min(BLOCK_END - SLOT - b->end, w->limits.max_pull);
    k->keep = false;
    k->pulling = true;
    size_t n = w->ops->pull(w->ctx, at, cap);
    k->pulling = false;
    assert(n <= cap);
    bool ours = w->kept == k;
    if (n > 0 && (ours || k->keep)) /* kept, it is sent by another connection */
        append(k, b, w, n);
    if (k->destroyed) {
        destroy(k);
        return false;
    }
    if (!ours)
        ws_kept_written(k);
    return n > 0 && ours && !k->resends;
}

static int pull_messages(struct ws_conn *w, struct ws_kept *k) {
    struct block *b = open_block(k);
    if (!b)
        return HT_ENOMEM;
    k->sending = b;
    size_t begin = b->end;
    while (w->seg_end < WS_SEGMENTS && b->end - begin < WS_ENOUGH && BLOCK_END - b->end >= SLOT + WS_KEPT_CAP &&
           pull_message(w, k, b))
        continue;
    return HT_OK;
}

/* ---- sending again ---- */

void ws_conn_resend(struct ws_conn *w) {
    struct ws_kept *k = w->kept;
    if (!k || k->resends)
        return;
    resend_from(k, k->blocks.next);
    ws_conn_want_send(w);
}

/* RFC 6455 5.3: what a mask was is known to whoever has read it. */
static void mask_anew(struct ws_conn *w, uint8_t *p, size_t n) {
    uint8_t fresh[4], change[4], *mask = p - 4;
    ws_next_mask(w, fresh);
    for (size_t i = 0; i < sizeof change; i++)
        change[i] = mask[i] ^ fresh[i];
    ws_mask(p, n, change, 0);
    memcpy(mask, fresh, sizeof fresh);
}

/* The next message that is to be sent again goes to the segments; true if there is one in this block. */
static bool resend_message(struct ws_conn *w, struct ws_kept *k, struct block *b) {
    while (k->offset < b->kept_end) {
        struct slot s;
        uint8_t *at = bytes_of(b) + k->offset;
        memcpy(&s, at, sizeof s);
        k->offset += SLOT + s.n;
        if (!s.kept || k->number++ < k->forgotten + 1)
            continue;
        if (!w->server)
            mask_anew(w, at + SLOT, s.n);
        add_segment(w, b, (size_t)(at - bytes_of(b)), &s);
        w->sends_long = s.n > WS_LONG_MESSAGE;
        k->resent += s.n;
        return true;
    }
    return false;
}

/* Messages of one block. */
static void resend_messages(struct ws_conn *w, struct ws_kept *k) {
    unsigned before = w->seg_end;
    size_t n = 0;
    while (k->at && w->seg_end == before) {
        struct block *b = k->at;
        while (w->seg_end < WS_SEGMENTS && n < WS_ENOUGH && resend_message(w, k, b))
            n += w->seg[w->seg_end - 1].n;
        if (k->offset >= b->kept_end)
            resend_from(k, b->node.next);
    }
}

int ws_kept_fill(struct ws_conn *w) {
    struct ws_kept *k = w->kept;
    unsigned before = w->seg_end;
    do {
        if (k->resends)
            resend_messages(w, k);
        if (w->seg_end > before)
            break;
        if (pull_messages(w, k) != HT_OK)
            return HT_ENOMEM;
    } while (w->kept == k && k->resends && w->seg_end == before);
    return HT_OK;
}
