/* SHA-256 of a file, by libcrypto. No state. */
#include "codec/codec.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/str.h"

enum { CHUNK_BYTES = 65536, DIGEST_BYTES = 32 };

static int update_from(int fd, EVP_MD_CTX *ctx, void *chunk, const char *path, struct err *err)
{
    for (;;) {
        ssize_t n = read(fd, chunk, CHUNK_BYTES);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return err_set_errno(err, ERR_IO, "%s", path);
        }
        if (n == 0) {
            return 0;
        }
        if (EVP_DigestUpdate(ctx, chunk, (size_t)n) != 1) {
            return err_set(err, ERR_FATAL, "%s: SHA-256 failed", path);
        }
    }
}

int codec_sha256_file(const char *path, char ret_hex[65], struct err *err)
{
    unsigned char digest[DIGEST_BYTES];
    int rc = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return err_set_errno(err, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO, "%s", path);
    }
    void *chunk = malloc(CHUNK_BYTES);
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    if (chunk == NULL || ctx == NULL) {
        rc = err_set(err, ERR_NOMEM, "%s: no memory for SHA-256", path);
        goto out;
    }
    if (EVP_DigestInit_ex(ctx, EVP_sha256(), NULL) != 1) {
        rc = err_set(err, ERR_FATAL, "%s: libcrypto has no SHA-256", path);
        goto out;
    }
    rc = update_from(fd, ctx, chunk, path, err);
    if (rc == 0 && EVP_DigestFinal_ex(ctx, digest, NULL) != 1) {
        rc = err_set(err, ERR_FATAL, "%s: SHA-256 failed", path);
    }
    if (rc == 0) {
        str_hex(digest, sizeof(digest), ret_hex);
    }
out:
    EVP_MD_CTX_free(ctx);
    free(chunk);
    (void)close(fd);
    return rc;
}
