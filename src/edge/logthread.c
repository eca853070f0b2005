#include "edge/logthread.h"

#include "base/clock.h"
#include "base/mem.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#define BATCH (1u << 20) /* bytes of lines in a transaction */
#define LOCKED_MS 5000   /* another process may keep the file locked for so long */
#define AGAIN_MS 100     /* until it is tried again */
#define REOPEN_MS 2000   /* a file that cannot be opened */
#define TRIMS 8          /* steps of making room behind a batch */
#define SAY_MS 60000     /* between two times that the owner is told that it cannot be written */
#define LOOK_MS 60000    /* for what has become too old */

struct block {
    struct ht_list node;
    struct ht_buf lines;
};

struct secrets {
    char **names;
    size_t n;
};

struct edge_logthread {
    pthread_t id;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    int fd;
    char path[512];
    struct edge_logdb_config cfg;
    struct edge_log_privacy privacy;
    /* With the lock held: */
    struct ht_list blocks, asks, answered, notes;
    size_t queued; /* bytes of blocks, with those that are being written */
    bool full, stop;
    uint64_t since; /* when the first of the blocks came */
    struct edge_log_counts counts;
    struct secrets next_secrets; /* taken over before the next batch */
    bool new_secrets;
    /* The thread's own: */
    struct secrets secrets;
    struct edge_logdb *db;
    struct edge_log_reader *reader;
    struct ht_list batch;
    uint64_t locked_since, again, opened;
    uint64_t lost; /* since it could not be written, and was said to be so */
    uint64_t said; /* when the owner was told of it, 0: not yet */
    bool failing, trims, told;
    struct ht_errmsg why_not; /* there is no file */
};

static int64_t wall_ms(void) { return (int64_t)ht_now_ms() + ht_wall_offset_ms(); }

static void tell(struct edge_logthread *t) {
    uint64_t one = 1;
    if (write(t->fd, &one, sizeof one) < 0) /* it is readable already */
        errno = 0;
}

static void note(struct edge_logthread *t, enum ht_log_level level, const char *fmt, const char *text) {
    struct edge_logthread_note *n = ht_calloc(1, sizeof *n);
    if (!n)
        return;
    n->level = level;
    ht_list_init(&n->node);
    ht_fail(&n->text, HT_EIO, fmt, text);
    pthread_mutex_lock(&t->lock);
    ht_list_push_back(&t->notes, &n->node);
    pthread_mutex_unlock(&t->lock);
    tell(t);
}

static void secrets_free(struct secrets *s) {
    for (size_t i = 0; i < s->n; i++)
        ht_free(s->names[i]);
    ht_free(s->names);
    *s = (struct secrets){0};
}

static void block_free(struct block *b) {
    ht_list_remove(&b->node);
    ht_buf_free(&b->lines);
    ht_free(b);
}

/* ---- the file ---- */

static void open_file(struct edge_logthread *t) {
    bool aside;
    struct ht_errmsg err;
    t->opened = ht_now_ms();
    int rc = edge_logdb_open(&t->db, &t->cfg, &aside, &err);
    if (rc == HT_OK && aside)
        note(t, HT_LOG_ERROR, "the log's file was damaged: it is %s now, and a new one is begun", err.text);
    if (rc == HT_OK) {
        pthread_mutex_lock(&t->lock);
        t->counts.last = edge_logdb_last(t->db);
        pthread_mutex_unlock(&t->lock);
        t->why_not.text[0] = '\0';
        t->trims = true;
        return;
    }
    if (!t->why_not.text[0])
        note(t, HT_LOG_ERROR, "the log is not kept: %s", err.text);
    t->why_not = err;
}

/* ---- writing ---- */

/* Lines of the batch are lost. */
static void lose(struct edge_logthread *t, const struct ht_errmsg *why) {
    uint64_t n = 0;
    struct ht_slice rest, line;
    HT_LIST_FOR_SAFE (it, &t->batch) {
        struct block *b = HT_LIST_ENTRY(it, struct block, node);
        rest = ht_buf_slice(&b->lines);
        for (int used; (used = edge_log_frame(rest, &line)) > 0; n++)
            rest = ht_slice_of(rest.p + used, rest.n - (size_t)used);
    }
    uint64_t now = ht_now_ms();
    if (!t->failing && !t->why_not.text[0] && (!t->said || now - t->said >= SAY_MS)) {
        t->said = now;
        t->told = true;
        note(t, HT_LOG_ERROR, "the log cannot be written, and its lines are lost until it can: %s", why->text);
    }
    t->failing = true;
    t->lost += n;
    pthread_mutex_lock(&t->lock);
    t->counts.lost += n;
    pthread_mutex_unlock(&t->lock);
}

static int add_lines(struct edge_logthread *t, struct ht_slice lines, struct edge_log_counts *c,
                     struct ht_errmsg *err) {
    struct edge_log_row row;
    struct ht_slice line;
    int rc = HT_OK;
    for (int used; rc == HT_OK && (used = edge_log_frame(lines, &line)) > 0;) {
        c->malformed += !edge_log_read(t->reader, line, wall_ms(), &t->privacy, &row);
        c->lost_before += row.lost;
        rc = edge_logdb_add(t->db, &row, err);
        c->written++;
        lines = ht_slice_of(lines.p + used, lines.n - (size_t)used);
    }
    return rc;
}

static int add_lost(struct edge_logthread *t, struct ht_errmsg *err) {
    struct edge_log_row row;
    char text[128];
    if (!t->lost)
        return HT_OK;
    snprintf(text, sizeof text, "%llu lines were lost, as the log could not be written", (unsigned long long)t->lost);
    edge_log_say(&row, wall_ms(), EDGE_LOG_FAIL, ht_slice_str(text));
    return edge_logdb_add(t->db, &row, err);
}

static int write_batch(struct edge_logthread *t, struct ht_errmsg *err) {
    struct edge_log_counts c = {0};
    char text[64];
    int rc = add_lost(t, err);
    for (struct ht_list *it = t->batch.next; rc == HT_OK && it != &t->batch; it = it->next)
        rc = add_lines(t, ht_buf_slice(&HT_LIST_ENTRY(it, struct block, node)->lines), &c, err);
    if (rc == HT_OK)
        rc = edge_logdb_commit(t->db, err);
    if (rc < 0)
        return rc;
    if (t->told) {
        snprintf(text, sizeof text, "%llu", (unsigned long long)t->lost);
        note(t, HT_LOG_WARN, "the log is written again; %s lines were lost", text);
    }
    t->failing = t->told = false;
    t->lost = 0;
    pthread_mutex_lock(&t->lock);
    t->counts.written += c.written;
    t->counts.malformed += c.malformed;
    t->counts.lost += c.lost_before;
    t->counts.lost_before += c.lost_before;
    t->counts.last = edge_logdb_last(t->db);
    pthread_mutex_unlock(&t->lock);
    return HT_OK;
}

/* As much as a batch may have brought. */
static void trim_some(struct edge_logthread *t) {
    t->trims = t->db != NULL;
    for (int i = 0; i < TRIMS && t->trims; i++)
        t->trims = edge_logdb_trim(t->db, wall_ms());
}

/* 0: the batch is done with, written or lost. HT_EAGAIN: once more, later. */
static int try_batch(struct edge_logthread *t) {
    struct ht_errmsg err = t->why_not;
    int rc = t->db ? write_batch(t, &err) : HT_EIO;
    if (rc == HT_ESPACE && edge_logdb_trim(t->db, wall_ms())) { /* the file's own bound, perhaps, and not the disk's */
        trim_some(t);
        rc = write_batch(t, &err);
    }
    if (rc == HT_EAGAIN) {
        uint64_t now = ht_now_ms();
        t->locked_since = t->locked_since ? t->locked_since : now;
        t->again = now + AGAIN_MS;
        if (now - t->locked_since < LOCKED_MS)
            return rc;
    }
    t->locked_since = 0;
    if (rc == HT_EPROTO) {
        edge_logdb_close(&t->db);
        open_file(t);
        rc = t->db ? write_batch(t, &err) : rc;
    }
    if (rc < 0)
        lose(t, &err);
    trim_some(t);
    return HT_OK;
}

static void take_batch(struct edge_logthread *t) {
    size_t n = 0, most = ht_min(BATCH, (size_t)(t->cfg.max_bytes / 32));
    while (!ht_list_empty(&t->blocks) && n < most) {
        struct block *b = HT_LIST_ENTRY(ht_list_pop_front(&t->blocks), struct block, node);
        n += ht_buf_size(&b->lines);
        ht_list_push_back(&t->batch, &b->node);
    }
    t->since = ht_now_ms();
    if (!t->new_secrets)
        return;
    secrets_free(&t->secrets);
    t->secrets = t->next_secrets;
    t->next_secrets = (struct secrets){0};
    t->new_secrets = false;
    t->privacy.secrets = (const char *const *)t->secrets.names;
    t->privacy.n_secrets = t->secrets.n;
}

/* With the lock, which it gives up meanwhile. */
static void write_lines(struct edge_logthread *t) {
    size_t n = 0;
    if (ht_list_empty(&t->batch))
        take_batch(t);
    pthread_mutex_unlock(&t->lock);
    if (try_batch(t) == HT_OK)
        while (!ht_list_empty(&t->batch)) {
            struct block *b = HT_LIST_ENTRY(t->batch.next, struct block, node);
            n += ht_buf_size(&b->lines);
            block_free(b);
        }
    pthread_mutex_lock(&t->lock);
    t->queued -= n;
    if (n)
        tell(t);
}

/* ---- questions ---- */

/* True: it has its answer. */
static bool go_on(struct edge_logthread *t, struct edge_logthread_ask *a) {
    if (!t->db) {
        a->rc = HT_EIO;
        a->err = t->why_not;
        return true;
    }
    if (a->stats) {
        a->rc = edge_logdb_stats(t->db, wall_ms(), a->hours, &a->totals, &a->out, &a->err);
        return true;
    }
    if (!a->begun)
        edge_log_search_begin(t->db, &a->search, &a->query);
    a->begun = true;
    a->rc = edge_log_search_step(t->db, &a->search, &a->out, &a->err);
    a->seen = a->search.seen;
    if (a->rc == 0)
        return false;
    a->rc = a->rc > 0 ? HT_OK : a->rc;
    return true;
}

/* A step of the first question, which then goes to the end of the row. With the lock, as above. */
static void answer(struct edge_logthread *t) {
    struct ht_list *node = ht_list_pop_front(&t->asks);
    struct edge_logthread_ask *a = HT_LIST_ENTRY(node, struct edge_logthread_ask, node);
    bool over = a->cancelled;
    pthread_mutex_unlock(&t->lock);
    over = over || go_on(t, a);
    pthread_mutex_lock(&t->lock);
    ht_list_push_back(over ? &t->answered : &t->asks, &a->node);
    if (over)
        tell(t);
}

/* ---- the thread ---- */

static void wait_until(struct edge_logthread *t, uint64_t due) {
    uint64_t now = ht_now_ms(), ms = due > now ? due - now : 0;
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    at.tv_sec += (time_t)(ms / 1000);
    at.tv_nsec += (long)(ms % 1000) * 1000000;
    if (at.tv_nsec >= 1000000000) {
        at.tv_sec++;
        at.tv_nsec -= 1000000000;
    }
    (void)pthread_cond_timedwait(&t->wake, &t->lock, &at);
}

/* When lines are to be written; UINT64_MAX: there are none. */
static uint64_t lines_due(const struct edge_logthread *t) {
    if (!ht_list_empty(&t->batch))
        return t->again;
    if (ht_list_empty(&t->blocks))
        return UINT64_MAX;
    return t->stop || t->queued >= BATCH ? 0 : t->since + EDGE_LOGTHREAD_GATHER_MS;
}

/* With the lock, which it gives up meanwhile. */
static void look_after(struct edge_logthread *t) {
    pthread_mutex_unlock(&t->lock);
    if (t->db && edge_logdb_is_gone(t->db, t->path)) {
        note(t, HT_LOG_WARN, "the log's file %s is there no longer, and a new one is begun", t->path);
        edge_logdb_close(&t->db);
        open_file(t);
    }
    t->trims = t->db && edge_logdb_trim(t->db, wall_ms());
    pthread_mutex_lock(&t->lock);
}

static void *work(void *arg) {
    struct edge_logthread *t = arg;
    uint64_t look = 0;
    open_file(t);
    pthread_mutex_lock(&t->lock);
    for (;;) {
        uint64_t now = ht_now_ms(), due = lines_due(t);
        bool asked = !ht_list_empty(&t->asks);
        if (!t->db && now - t->opened >= REOPEN_MS && due <= now) {
            pthread_mutex_unlock(&t->lock);
            open_file(t);
            pthread_mutex_lock(&t->lock);
        }
        if (asked)
            answer(t);
        if (due <= now)
            write_lines(t);
        else if (t->stop && due == UINT64_MAX)
            break;
        else if (t->trims || now >= look) {
            look = now + LOOK_MS;
            look_after(t);
        } else if (!asked)
            wait_until(t, ht_min64(due, look));
    }
    pthread_mutex_unlock(&t->lock);
    edge_logdb_close(&t->db);
    return NULL;
}

/* ---- the owner ---- */

static bool start_thread(struct edge_logthread *t) {
    sigset_t all, old;
    pthread_condattr_t attr;
    pthread_mutex_init(&t->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&t->wake, &attr);
    pthread_condattr_destroy(&attr);
    sigfillset(&all); /* signals are for the loop's thread alone */
    pthread_sigmask(SIG_SETMASK, &all, &old);
    bool ok = pthread_create(&t->id, NULL, work, t) == 0;
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return ok;
}

static void release(struct edge_logthread *t) {
    HT_LIST_FOR_SAFE (it, &t->asks)
        edge_logthread_ask_free(&(struct edge_logthread_ask *){HT_LIST_ENTRY(it, struct edge_logthread_ask, node)});
    HT_LIST_FOR_SAFE (it, &t->answered)
        edge_logthread_ask_free(&(struct edge_logthread_ask *){HT_LIST_ENTRY(it, struct edge_logthread_ask, node)});
    HT_LIST_FOR_SAFE (it, &t->notes)
        ht_free(HT_LIST_ENTRY(it, struct edge_logthread_note, node));
    HT_LIST_FOR_SAFE (it, &t->blocks)
        block_free(HT_LIST_ENTRY(it, struct block, node));
    HT_LIST_FOR_SAFE (it, &t->batch)
        block_free(HT_LIST_ENTRY(it, struct block, node));
    secrets_free(&t->secrets);
    secrets_free(&t->next_secrets);
    if (t->fd >= 0)
        close(t->fd);
    ht_free(t->reader);
    ht_free(t);
}

int edge_logthread_start(struct edge_logthread **out, const struct edge_logthread_config *cfg, struct ht_errmsg *err) {
    struct edge_logthread *t = ht_calloc(1, sizeof *t);
    *out = NULL;
    if (!t)
        return ht_fail(err, HT_ENOMEM, "out of memory");
    snprintf(t->path, sizeof t->path, "%s", cfg->path);
    t->cfg = (struct edge_logdb_config){
        .path = t->path, .max_bytes = ht_max64(cfg->max_bytes, EDGE_LOGDB_LEAST), .max_age_ms = cfg->max_age_ms};
    t->privacy.mask_addresses = cfg->mask_addresses;
    struct ht_list *lists[] = {&t->blocks, &t->asks, &t->answered, &t->notes, &t->batch};
    for (size_t i = 0; i < HT_ARRAY_LEN(lists); i++)
        ht_list_init(lists[i]);
    t->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    t->reader = ht_calloc(1, sizeof *t->reader);
    if (t->fd < 0 || !t->reader || !start_thread(t)) {
        int rc = t->fd < 0 ? HT_EFDS : HT_ENOMEM;
        release(t);
        return ht_fail(err, rc, "the thread of the log cannot be started: %s", ht_err_text(rc));
    }
    *out = t;
    return HT_OK;
}

void edge_logthread_stop(struct edge_logthread **tp) {
    struct edge_logthread *t = *tp;
    *tp = NULL;
    if (!t)
        return;
    pthread_mutex_lock(&t->lock);
    t->stop = true;
    pthread_cond_signal(&t->wake);
    pthread_mutex_unlock(&t->lock);
    pthread_join(t->id, NULL);
    pthread_cond_destroy(&t->wake);
    pthread_mutex_destroy(&t->lock);
    release(t);
}

int edge_logthread_fd(const struct edge_logthread *t) { return t->fd; }

int edge_logthread_lines(struct edge_logthread *t, struct ht_buf *lines) {
    struct block *b = ht_calloc(1, sizeof *b);
    if (!b)
        return HT_ENOMEM;
    ht_list_init(&b->node);
    b->lines = *lines;
    *lines = (struct ht_buf){0};
    pthread_mutex_lock(&t->lock);
    if (ht_list_empty(&t->blocks))
        t->since = ht_now_ms();
    bool first = ht_list_empty(&t->blocks), many = t->queued >= BATCH;
    ht_list_push_back(&t->blocks, &b->node);
    t->queued += ht_buf_size(&b->lines);
    if (first || (t->queued >= BATCH && !many)) /* otherwise it knows when to look */
        pthread_cond_signal(&t->wake);
    pthread_mutex_unlock(&t->lock);
    return HT_OK;
}

bool edge_logthread_has_room(struct edge_logthread *t) {
    pthread_mutex_lock(&t->lock);
    t->full = t->queued >= (t->full ? EDGE_LOGTHREAD_QUEUE / 2 : EDGE_LOGTHREAD_QUEUE);
    bool room = !t->full;
    pthread_mutex_unlock(&t->lock);
    return room;
}

void edge_logthread_ask(struct edge_logthread *t, struct edge_logthread_ask *ask) {
    pthread_mutex_lock(&t->lock);
    ht_list_push_back(&t->asks, &ask->node);
    pthread_cond_signal(&t->wake);
    pthread_mutex_unlock(&t->lock);
}

void edge_logthread_cancel(struct edge_logthread *t, struct edge_logthread_ask *ask) {
    pthread_mutex_lock(&t->lock);
    ask->cancelled = true;
    pthread_mutex_unlock(&t->lock);
}

int edge_logthread_secrets(struct edge_logthread *t, const char *const *names, size_t n) {
    struct secrets s = {.names = ht_calloc(n, sizeof(char *))};
    if (!s.names)
        return HT_ENOMEM;
    for (; s.n < n; s.n++)
        if (!(s.names[s.n] = ht_strndup(names[s.n], strlen(names[s.n])))) {
            secrets_free(&s);
            return HT_ENOMEM;
        }
    pthread_mutex_lock(&t->lock);
    struct secrets old = t->next_secrets;
    t->next_secrets = s;
    t->new_secrets = true;
    pthread_mutex_unlock(&t->lock);
    secrets_free(&old);
    return HT_OK;
}

void edge_logthread_take(struct edge_logthread *t, struct ht_list *asks, struct ht_list *notes) {
    uint64_t n;
    pthread_mutex_lock(&t->lock);
    if (read(t->fd, &n, sizeof n) < 0) /* it was quiet */
        errno = 0;
    ht_list_splice(asks, &t->answered);
    ht_list_splice(notes, &t->notes);
    pthread_mutex_unlock(&t->lock);
}

void edge_logthread_count(struct edge_logthread *t, struct edge_log_counts *out) {
    pthread_mutex_lock(&t->lock);
    *out = t->counts;
    pthread_mutex_unlock(&t->lock);
}

void edge_logthread_ask_free(struct edge_logthread_ask **ap) {
    struct edge_logthread_ask *a = *ap;
    *ap = NULL;
    if (!a)
        return;
    ht_list_remove(&a->node);
    ht_buf_free(&a->out);
    ht_free(a);
}
