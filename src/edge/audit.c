/*
 * The edge's audit, FOLDER/audit.log: a line for each change of a document. A full file becomes audit.log.1, the one
 * before it audit.log.2, and so on; the last one goes.
 */
#include "edge/audit.h"

#include "base/clock.h"
#include "base/log.h"
#include "edge/edge_priv.h"
#include "events_gen.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#define AUDIT "audit.log"

int edge_audit_line(struct ht_buf *out, const struct edge_audited *a, const char *failed) {
    char when[HT_TIME_TEXT];
    return tell_edge_change(out, ht_now_text(when),
                            &(struct tell_edge_change){.who = a->who,
                                                       .from = a->from,
                                                       .what = a->what,
                                                       .kind = a->kind,
                                                       .id = a->id,
                                                       .parts = a->parts,
                                                       .version = a->version,
                                                       .failed = failed});
}

/* From the oldest on, so that who is killed in between has lost no file but the oldest; a number may be missing then,
 * which the next time closes. */
static void rotate(const char *folder) {
    char from[EDGE_PATH], to[EDGE_PATH], name[32];
    for (int i = EDGE_AUDIT_FILES - 1; i > 0; i--) {
        snprintf(name, sizeof name, i > 1 ? AUDIT ".%d" : AUDIT, i - 1);
        edge_path(folder, name, from);
        snprintf(name, sizeof name, AUDIT ".%d", i);
        if (rename(from, edge_path(folder, name, to)) != 0 && errno != ENOENT)
            ht_error("edge", "%s cannot be moved to %s, and grows: %s", from, to, strerror(errno));
    }
}

/* Opened for each write, so that whoever moves the file away has the next line in a new file. A line that the machine's
 * end has cut does not take the next one with it. */
int edge_audit_write(const char *folder, uint64_t max_bytes, struct ht_slice lines, struct ht_errmsg *err) {
    char path[EDGE_PATH], last = '\n';
    const int how = O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW;
    int fd = open(edge_path(folder, AUDIT, path), how, 0600);
    off_t size = fd >= 0 ? lseek(fd, 0, SEEK_END) : -1;
    if (size > 0 && max_bytes && (uint64_t)size + lines.n > max_bytes) {
        close(fd);
        rotate(folder);
        fd = open(path, how, 0600);
        size = fd >= 0 ? lseek(fd, 0, SEEK_END) : -1;
    }
    bool is_new = size == 0;
    bool ok = is_new || (size > 0 && pread(fd, &last, 1, size - 1) == 1);
    if (ok && last != '\n')
        ok = write(fd, "\n", 1) == 1;
    ok = ok && write(fd, lines.p, lines.n) == (ssize_t)lines.n && fdatasync(fd) == 0;
    int why = errno;
    if (fd >= 0)
        close(fd);
    if (!ok)
        return ht_fail(err, HT_EIO, "%s cannot be written, so nothing is changed: %s", path, strerror(why));
    return is_new ? edge_folder_sync(folder, "", err) : HT_OK; /* its name is on the disk, and those of the others */
}
