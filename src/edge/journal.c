/*
 * What has changed in documents since their own files were written: FOLDER/state/journal. A change, or many at once, is
 * on the disk after one write and one wait for the disk, and the files follow when there is time (state.c). Whoever
 * starts reads the files, and then the journal, whose documents are never older.
 *
 * A record is a line, and the document's text behind it: KIND ID VERSION BYTES CHECK. No bytes: the document was
 * removed. CHECK is made of the record and of the CHECK before it: what a crash has left half written, or what a write
 * that had failed has left behind a later one, ends the journal.
 */
#include "edge/journal.h"

#include "base/log.h"
#include "base/mem.h"
#include "edge/edge_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_NAME "state/journal"
#define RECORD_LINE 256 /* bytes of a record's line */

static uint64_t check_of(uint64_t chain, const char *head, struct ht_slice text) {
    for (int i = 0; i < 64; i += 8)
        chain = ht_hash_char(chain, (char)(chain >> i));
    for (; *head; head++)
        chain = ht_hash_char(chain, *head);
    for (size_t i = 0; i < text.n; i++)
        chain = ht_hash_char(chain, text.p[i]);
    return chain;
}

int edge_journal_put(struct ht_buf *out, uint64_t *chain, enum edge_kind kind, const char *id, uint64_t version,
                     struct ht_slice text) {
    char head[RECORD_LINE];
    size_t was = out->len;
    snprintf(head, sizeof head, "%s %s %" PRIu64 " %zu", edge_kind_names[kind], id, version, text.n);
    uint64_t check = check_of(*chain, head, text);
    int rc = ht_buf_printf(out, "%s %016" PRIx64 "\n", head, check);
    if (rc == HT_OK && text.n)
        rc = ht_buf_append(out, text.p, text.n);
    if (rc < 0)
        out->len = was;
    else
        *chain = check;
    return rc;
}

/* ---- reading ---- */

static int kind_of(const char *name) {
    for (int kind = 0; kind < EDGE_KINDS; kind++)
        if (strcmp(edge_kind_names[kind], name) == 0)
            return kind;
    return -1;
}

/* Takes a record from *text. False: there is no whole one. */
static bool take(struct ht_slice *text, uint64_t *chain, struct edge_record *out) {
    char line[RECORD_LINE], kind[16], head[RECORD_LINE];
    uint64_t check;
    size_t n;
    const char *end = text->n ? memchr(text->p, '\n', ht_min(text->n, sizeof line - 1)) : NULL;
    if (!end)
        return false;
    snprintf(line, sizeof line, "%.*s", (int)(end - text->p), text->p);
    if (sscanf(line, "%15s %100s %" SCNu64 " %zu %" SCNx64, kind, out->id, &out->version, &n, &check) != 5 ||
        n > EDGE_DOC_MAX || kind_of(kind) < 0)
        return false;
    struct ht_slice rest = ht_slice_of(end + 1, text->n - (size_t)(end + 1 - text->p));
    if (rest.n < n)
        return false;
    out->kind = (enum edge_kind)kind_of(kind);
    out->text = ht_slice_of(rest.p, n);
    snprintf(head, sizeof head, "%s %s %" PRIu64 " %zu", kind, out->id, out->version, n);
    size_t m = strlen(head); /* the line is as it was written, also where numbers could be written otherwise */
    if (check_of(*chain, head, out->text) != check || strncmp(line, head, m) != 0 ||
        snprintf(head, sizeof head, " %016" PRIx64, check) < 0 || strcmp(line + m, head) != 0)
        return false;
    *chain = check;
    *text = ht_slice_of(rest.p + n, rest.n - n);
    return true;
}

static int read_all(int fd, char **out, size_t *n, struct ht_errmsg *err) {
    struct stat st;
    size_t at = 0;
    *out = NULL;
    if (fstat(fd, &st) != 0)
        return ht_fail(err, HT_EIO, FILE_NAME " cannot be read: %s", strerror(errno));
    char *text = ht_malloc((size_t)st.st_size + 1);
    if (!text)
        return ht_fail(err, HT_ENOMEM, "out of memory");
    for (ssize_t got = 1; got > 0 && at < (size_t)st.st_size; at += (size_t)got) {
        got = pread(fd, text + at, (size_t)st.st_size - at, (off_t)at);
        if (got < 0) {
            ht_free(text);
            return ht_fail(err, HT_EIO, FILE_NAME " cannot be read: %s", strerror(errno));
        }
    }
    *out = text;
    *n = at;
    return HT_OK;
}

int edge_journal_read(struct ht_slice *text, uint64_t *chain, int (*each)(void *ctx, const struct edge_record *r),
                      void *ctx) {
    struct edge_record r;
    int rc = HT_OK;
    while (rc == HT_OK && take(text, chain, &r))
        rc = each(ctx, &r);
    return rc;
}

int edge_journal_open(struct edge_journal *j, const char *folder, int (*each)(void *ctx, const struct edge_record *r),
                      void *ctx, struct ht_errmsg *err) {
    char path[EDGE_PATH];
    size_t n = 0;
    *j = (struct edge_journal){.chain = HT_HASH};
    j->fd = open(edge_path(folder, FILE_NAME, path), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (j->fd < 0)
        return ht_fail(err, HT_EIO, "%s: %s", path, strerror(errno));
    char *text;
    int rc = read_all(j->fd, &text, &n, err);
    if (rc < 0)
        return rc;
    struct ht_slice rest = ht_slice_of(text, n);
    rc = edge_journal_read(&rest, &j->chain, each, ctx);
    j->size = n - rest.n;
    if (rc < 0)
        ht_fail(err, rc, "%s cannot be taken in: %s", path, ht_err_text(rc));
    else if (rest.n)
        ht_warn("edge", "%s: the last %zu bytes are of a change that was never finished", path, rest.n);
    explicit_bzero(text, n);
    ht_free(text);
    return rc;
}

void edge_journal_close(struct edge_journal *j) {
    if (j->fd >= 0)
        close(j->fd);
    j->fd = -1;
}

/* ---- writing ---- */

int edge_journal_write(struct edge_journal *j, struct ht_slice records, uint64_t chain, struct ht_errmsg *err) {
    size_t at = 0;
    bool ok = true;
    while (ok && at < records.n) {
        ssize_t n = pwrite(j->fd, records.p + at, records.n - at, (off_t)(j->size + at));
        ok = n > 0 || (n < 0 && errno == EINTR);
        at += n > 0 ? (size_t)n : 0;
    }
    if (!ok || fdatasync(j->fd) != 0) /* what is there of it is written over by the next one */
        return ht_fail(err, HT_EIO, FILE_NAME " cannot be written: %s", strerror(errno));
    j->size += records.n;
    j->chain = chain;
    return HT_OK;
}

int edge_journal_clear(struct edge_journal *j, struct ht_errmsg *err) {
    if (j->size == 0)
        return HT_OK;
    if (ftruncate(j->fd, 0) != 0)
        return ht_fail(err, HT_EIO, FILE_NAME " cannot be emptied: %s", strerror(errno));
    j->size = 0;
    j->chain = HT_HASH;
    return HT_OK;
}
