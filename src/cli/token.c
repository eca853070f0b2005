#include "cli/cli.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

static int check_token(const char *token, const char *where, struct ht_errmsg *err) {
    for (const char *p = token; *p; p++)
        if ((unsigned char)*p <= ' ' || (unsigned char)*p >= 0x7f)
            return ht_fail(err, HT_EINVAL, "the token in %s holds a space or a character that is not ASCII", where);
    return HT_OK;
}

int cli_secret_line(const char *what, const char *file, char out[WIRE_LIMIT_MAX_TOKEN + 1], struct ht_errmsg *err) {
    int fd = open(file, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return ht_fail(err, HT_EIO, "%s file %s cannot be opened: %s", what, file, strerror(errno));
    struct stat st;
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && (st.st_mode & (S_IROTH | S_IWOTH)))
        cli_complain("warning: every user of this machine may read or write %s; chmod 600 keeps %s secret", file, what);
    size_t n = 0;
    ssize_t r = 0;
    while (n <= WIRE_LIMIT_MAX_TOKEN && (r = read(fd, out + n, WIRE_LIMIT_MAX_TOKEN + 1 - n)) > 0)
        n += (size_t)r;
    int saved = errno;
    close(fd);
    if (r < 0)
        return ht_fail(err, HT_EIO, "%s file %s cannot be read: %s", what, file, strerror(saved));
    if (n >= 3 && memcmp(out, "\xef\xbb\xbf", 3) == 0) { /* a byte order mark, as some editors write */
        n -= 3;
        memmove(out, out + 3, n);
    }
    char *end = memchr(out, '\n', n);
    n = end ? (size_t)(end - out) : n;
    if (n > WIRE_LIMIT_MAX_TOKEN)
        return ht_fail(err, HT_EINVAL, "%s in %s has more than %u characters", what, file, WIRE_LIMIT_MAX_TOKEN);
    while (n > 0 && (out[n - 1] == '\r' || out[n - 1] == ' ' || out[n - 1] == '\t'))
        n--;
    if (n == 0)
        return ht_fail(err, HT_EINVAL, "the first line of %s file %s is empty", what, file);
    if (memchr(out, '\0', n))
        return ht_fail(err, HT_EINVAL, "%s in %s holds a NUL", what, file);
    out[n] = '\0';
    return HT_OK;
}

int cli_token_check(const char *token, const char *where, char out[WIRE_LIMIT_MAX_TOKEN + 1], struct ht_errmsg *err) {
    size_t n = strlen(token);
    if (n > WIRE_LIMIT_MAX_TOKEN)
        return ht_fail(err, HT_EINVAL, "the token in %s has more than %u characters", where, WIRE_LIMIT_MAX_TOKEN);
    int rc = check_token(token, where, err);
    if (rc == HT_OK)
        memcpy(out, token, n + 1);
    return rc;
}

int cli_token(const char *file, const char *from_env, char out[WIRE_LIMIT_MAX_TOKEN + 1], struct ht_errmsg *err) {
    out[0] = '\0';
    if (file) {
        int rc = cli_secret_line("the token", file, out, err);
        return rc < 0 ? rc : check_token(out, file, err);
    }
    if (!from_env)
        return HT_OK;
    return cli_token_check(from_env, "HOODY_TUNNEL_TOKEN", out, err);
}
