#include "ws/ws_priv.h"

/*
 * Whether bulk has a connection for itself, told by the lengths of the messages.
 *
 * On a short way a large receive window saves a fifth of the CPU of bulk: the sender need not wait for each message to
 * be read. But what lies in the window is ahead of everything that comes later, and a small request beside a download
 * waits for all of it. So the window is large only while nobody else is there. The sender knows that: its messages are
 * long while one stream alone has something, and are kept short as soon as a small answer has to pass
 * (MUX_INTERACTIVE). Nothing in the protocol is needed for it.
 *
 * Kept short is what has just that length: there was more to send. What is shorter says nothing. A source that is dry
 * for a moment makes such messages, the more often the larger the window is, and so do WINDOWs of the other direction;
 * when they counted, the window went back and forth, and an upload alone lost a fifth.
 *
 * Up it goes after 32 long messages, 8 MiB at most: what a transfer loses until then are milliseconds. Down it goes
 * after four that are kept short: each one more is what somebody waits for.
 */
#define SURE 32
#define SHORT_COSTS 8

static enum io_tunnel_window next(struct ws_bulk *b, size_t n) {
    if (b->score == SURE)
        return IO_WINDOW_LARGE;
    switch (b->window) {
    case IO_WINDOW_LARGE:
        b->left = IO_TUNNEL_LARGE;
        return b->score > 0 ? IO_WINDOW_LARGE : IO_WINDOW_SHRINKS;
    case IO_WINDOW_SHRINKS:
        b->left -= (uint32_t)ht_min(b->left, n);
        return b->left > 0 ? IO_WINDOW_SHRINKS : IO_WINDOW_SMALL;
    default:
        return IO_WINDOW_SMALL;
    }
}

bool ws_bulk_message(struct ws_bulk *b, size_t n) {
    enum io_tunnel_window before = b->window;
    if (n > b->kept_short)
        b->score += b->score < SURE;
    else if (n == b->kept_short)
        b->score -= (uint32_t)ht_min(b->score, SHORT_COSTS);
    b->window = next(b, n);
    return b->window != before;
}
