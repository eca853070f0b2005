/*
 * A map as a file, which HAProxy reads whenever it starts, also unasked: at each moment it is what is wanted. A whole
 * file takes as long as it is large, and a change does not wait for 50,000 others: it changes lines where they are.
 *
 * A line that begins with # is none for HAProxy, and a blank in front of a key does not count. So a line is appended
 * with #, then its first byte becomes a blank, and then the first byte of the key's old line becomes #. Only these two
 * bytes count, each is written in one step, and in between both lines are there, of which HAProxy takes the first: who
 * is killed in between, or reads meanwhile, has the old value or the new one, never half of one or none. What is off,
 * or has a policy, cannot be missing.
 *
 * Lines that no longer count stay until they are more than the others; then the file is written anew, and takes the
 * old one's place. Nothing waits for the disk: an edge writes all files when it starts, from documents that did.
 */
#include "edge/edge_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#define GARBAGE 4096 /* lines that no longer count and are never too many */

int edge_mapfile_begin(struct edge_mapfile *f, const char *folder, const char *name, struct ht_slice text, size_t lines,
                       struct ht_errmsg *err) {
    char path[EDGE_PATH];
    edge_mapfile_close(f);
    int rc = edge_folder_write(folder, name, text, false, err);
    if (rc < 0)
        return rc;
    f->fd = open(edge_path(folder, name, path), O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
    if (f->fd < 0)
        return ht_fail(err, HT_EIO, "%s cannot be written: %s", path, strerror(errno));
    f->size = text.n;
    f->lines = lines;
    f->dead = 0;
    return HT_OK;
}

void edge_mapfile_close(struct edge_mapfile *f) {
    if (f->fd >= 0)
        close(f->fd);
    f->fd = -1;
}

bool edge_mapfile_full(const struct edge_mapfile *f) { return f->fd < 0 || f->dead > f->lines + GARBAGE; }

static bool put(const struct edge_mapfile *f, const char *p, size_t n, uint64_t at) {
    return pwrite(f->fd, p, n, (off_t)at) == (ssize_t)n;
}

bool edge_mapfile_drop(struct edge_mapfile *f, uint64_t *at) {
    if (*at == EDGE_NO_LINE)
        return true;
    if (!put(f, "#", 1, *at))
        return false;
    *at = EDGE_NO_LINE;
    f->dead++;
    f->lines--;
    return true;
}

bool edge_mapfile_put(struct edge_mapfile *f, const char *key, const char *value, uint64_t *at) {
    struct ht_buf line = {0};
    uint64_t old = *at, now = f->size;
    bool ok = ht_buf_printf(&line, "#%s %s\n", key, value) == HT_OK;
    size_t n = ht_buf_size(&line);
    ok = ok && put(f, (const char *)ht_buf_head(&line), n, now) && put(f, " ", 1, now);
    ht_buf_free(&line);
    if (!ok)
        return false;
    f->size += n;
    f->lines++;
    *at = now;
    return edge_mapfile_drop(f, &old);
}
