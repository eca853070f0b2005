#include "kit/users.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "kit/kit_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

struct kit_users {
    struct users_file file;
};

static int read_text(const char *name, struct ht_buf *out, struct ht_errmsg *err) {
    struct stat st;
    int fd = open(name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return ht_fail(err, HT_EIO, "users file %s: %s", name, strerror(errno));
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_mode & S_IWOTH)
        ht_warn("kit", "users file %s: every user of this machine may write to it, and so let anybody in", name);
    int rc = users_file_read(fd, name, out, err);
    close(fd);
    return rc;
}

int kit_users_load(struct kit_users **up, const char *name, struct ht_errmsg *err) {
    struct ht_buf text = {0};
    struct kit_users *u = ht_calloc(1, sizeof *u);
    int rc = u ? read_text(name, &text, err) : ht_fail(err, HT_ENOMEM, "out of memory");
    if (rc == HT_OK)
        rc = users_file_parse(&u->file, name, text.data ? (const char *)ht_buf_head(&text) : "", ht_buf_size(&text),
                              err);
    ht_buf_free(&text);
    if (rc == HT_OK) {
        kit_users_free(up);
        *up = u;
    } else {
        kit_users_free(&u);
    }
    return rc;
}

bool kit_users_find(const struct kit_users *u, struct ht_slice token, const char **name, bool *admin) {
    uint8_t digest[KIT_DIGEST];
    const struct users_entry *found = NULL;
    if (token.n == 0)
        return false;
    kit_token_digest(token, digest);
    /* All of them, so that the time does not tell which one was near. */
    for (size_t i = 0; i < u->file.n; i++)
        for (size_t k = 0; k < u->file.users[i].n_digests; k++)
            if (ht_const_time_eq(u->file.users[i].digests[k], KIT_DIGEST, digest, KIT_DIGEST))
                found = &u->file.users[i];
    *name = found ? found->name : "";
    *admin = found && found->admin;
    return found != NULL;
}

void kit_users_free(struct kit_users **up) {
    struct kit_users *u = *up;
    *up = NULL;
    if (!u)
        return;
    users_file_free(&u->file);
    ht_free(u);
}
