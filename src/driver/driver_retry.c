/* After a lost link: decides whether and when to try again, and starts the attempt. */
#include "driver/driver.h"

#include "base/clock.h"

#define RETRY_AFTER_MAX_MS 3600000u /* the longest wait that a kit can ask for */

uint64_t driver_backoff(unsigned attempt, uint64_t min_ms, uint64_t max_ms, uint64_t random) {
    uint64_t most = min_ms;
    while (attempt-- > 0 && most < max_ms)
        most *= 2;
    /* Full jitter, so that drivers that have lost the same kit do not come back all at once. */
    return random % (ht_min64(most, max_ms) + 1);
}

/* How much of retry_for_ms is left, counted from the loss; UINT64_MAX: no limit. */
static uint64_t time_left(const struct ht_tunnel *t) {
    if (t->retry_for_ms == 0)
        return UINT64_MAX;
    if (t->retry_for_ms == HT_NO_RETRY)
        return 0;
    /* told_up: the link was up until now, so lost_at is from an earlier loss. */
    uint64_t now = io_now_ms(t->loop), end = (t->told_up ? now : t->lost_at) + t->retry_for_ms;
    return end > now ? end - now : 0;
}

bool driver_retry_wanted(const struct ht_tunnel *t) {
    if (!t->end_known || t->final || !(t->was_up || t->retry_first))
        return false;
    switch (t->end_error) {
    case HT_TUNNEL_ECONNECT:
    case HT_TUNNEL_EHANDSHAKE:
    /* A hotel's login page, a wrong clock, an edge that restarts: such obstacles before the kit go away. What the kit
     * itself has said is in `final`. */
    case HT_TUNNEL_ETLS:
    case HT_TUNNEL_EAUTH:
    case HT_TUNNEL_ELIMIT:
    case HT_TUNNEL_EPROTO: /* a new session may not meet the same fault */
    case HT_TUNNEL_ELOST:
    case HT_TUNNEL_EGOAWAY:
        return time_left(t) > 0;
    default:
        return false;
    }
}

/* How long until the next attempt. After a refusal the waits are longer. With `kept` streams wait for the link, and the
 * kit lets new visitors wait too, but not for long: however often the link was lost, the next attempt is soon. */
static uint64_t wait_before(const struct ht_tunnel *t, bool kept) {
    uint64_t random;
    if (t->network.moved && t->attempts == 0) /* no other driver has lost its link for that reason */
        return 0;
    if (t->vtunnel) /* VRETRY-1 */
        return t->attempts == 0
                   ? 0
                   : ht_min64(VTUNNEL_LIMIT_RETRY_MAX, VTUNNEL_LIMIT_RETRY_FIRST << ht_min(t->attempts - 1, 8));
    ht_random_bytes(&random, sizeof random);
    if (!t->refused)
        return driver_backoff(t->attempts, t->retry_min_ms, kept ? WIRE_LIMIT_RETRY_KEPT : WIRE_LIMIT_RETRY_MAX,
                              random);
    uint64_t least = (uint64_t)t->retry_min_ms * DRIVER_REFUSED_WAITS / 2;
    return least +
           driver_backoff(t->attempts, (uint64_t)t->retry_min_ms * DRIVER_REFUSED_WAITS, WIRE_LIMIT_RETRY_MAX, random);
}

static void timer_fired(struct io_timer *timer) {
    struct ht_tunnel *t = ht_container_of(timer, struct ht_tunnel, retry_timer);
    if (t->state == DRIVER_WAITING) /* it may have been closed in this turn */
        driver_link_start(t);
}

void driver_retry_begin(struct ht_tunnel *t) {
    bool waits = driver_resume_wait(t);
    if (t->state != DRIVER_DOWN) /* the streams that have ended there had a callback that closed the tunnel */
        return;
    uint64_t left = time_left(t);
    if (t->told_up) {
        t->lost_at = io_now_ms(t->loop);
        if (t->lost_at - t->up_at >= DRIVER_STEADY_MS)
            t->attempts = 0;
    }
    uint64_t wait = wait_before(t, waits);
    t->network.moved = false;
    t->attempts++;
    t->only_v1 = false; /* perhaps something other than the kit has refused the list of subprotocols */
    wait = ht_max64(wait, ht_min64(t->retry_after_ms, RETRY_AFTER_MAX_MS));
    wait = ht_min(wait, left); /* the last attempt is at the end of retry_for_ms */
    driver_set_state(t, DRIVER_WAITING);
    io_timer_init(t->loop, &t->retry_timer, timer_fired);
    io_timer_set(&t->retry_timer, wait);
    bool was_up = t->told_up;
    t->told_up = false;
    if (!was_up)
        driver_say(t, t->refused ? HT_SEVERITY_WARNING : HT_SEVERITY_INFO, "%s; next attempt in %llu ms", t->end_text,
                   (unsigned long long)wait);
    else if (t->calls.disconnected)
        t->calls.disconnected(t->user, &(struct ht_disconnected){.error = t->end_error,
                                                                 .text = t->end_text,
                                                                 .retrying = 1,
                                                                 .retry_in_ms = wait,
                                                                 .paused = waits ? driver_resume_streams(t) : 0,
                                                                 .paused_for_ms = waits ? t->pause.grace_ms : 0});
    if (t->calls.retrying && t->state == DRIVER_WAITING)
        t->calls.retrying(t->user,
                          &(struct ht_retry){
                              .attempt = t->attempts, .error = t->end_error, .text = t->end_text, .retry_in_ms = wait});
}

void driver_retry_now(struct ht_tunnel *t) {
    if (t->state == DRIVER_WAITING)
        io_timer_set(&t->retry_timer, 0);
    driver_past_now(t);
    driver_shards_now(t);
}
