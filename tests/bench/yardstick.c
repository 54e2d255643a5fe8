/*
 * yardstick SOURCE LOG SINK: what the thin path costs when nothing but the bytes is done: reads SOURCE,
 * checksums it (CRC32C), appends it to LOG, syncs LOG by the megabyte, and copies it to SINK, synced once
 * at the end. One thread. Prints the bytes and the checksum, so that nothing can be left out.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <isa-l.h>

enum { PIECE = 1 << 20 };

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static int must_open(const char *path, int flags)
{
    int fd = open(path, flags | O_CLOEXEC, 0600);
    if (fd < 0) {
        die(path);
    }
    return fd;
}

static void write_all(int fd, const unsigned char *p, size_t n)
{
    while (n > 0) {
        ssize_t done = write(fd, p, n);
        if (done < 0) {
            die("write");
        }
        p += done;
        n -= (size_t)done;
    }
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        (void)fprintf(stderr, "usage: yardstick SOURCE LOG SINK\n");
        return 2;
    }
    static unsigned char piece[PIECE];
    int source = must_open(argv[1], O_RDONLY);
    int log = must_open(argv[2], O_WRONLY | O_CREAT | O_TRUNC);
    int sink = must_open(argv[3], O_WRONLY | O_CREAT | O_TRUNC);
    uint32_t crc = 0;
    uint64_t bytes = 0;
    for (;;) {
        ssize_t n = read(source, piece, PIECE);
        if (n < 0) {
            die(argv[1]);
        }
        if (n == 0) {
            break;
        }
        crc = crc32_iscsi(piece, (int)n, crc);
        write_all(log, piece, (size_t)n);
        if (fdatasync(log) != 0) {
            die("fdatasync");
        }
        write_all(sink, piece, (size_t)n);
        bytes += (uint64_t)n;
    }
    if (fdatasync(sink) != 0) {
        die("fdatasync");
    }
    (void)printf("%llu %08x\n", (unsigned long long)bytes, crc);
    return 0;
}
