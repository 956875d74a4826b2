/* Loaded before the C library (LD_PRELOAD): makes writing to database files fail as the file named by FAULT_ORDERS says, for
   as long as it says so. "full": no space is left. "read-only": the file system has become so. "fsync": what was written does
   not reach the disk. Files whose path does not hold FAULT_FILES are left alone. "clock -3600": the time of day is an hour behind;
   the clock that never steps goes on as it is. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

/* What follows this word in the orders; NULL, if they are others. */
static const char *ordered(const char *what) {
    static __thread char said[32];
    const char *orders = getenv("FAULT_ORDERS");
    int fd = orders ? open(orders, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0) return NULL;
    ssize_t length = read(fd, said, sizeof said - 1);
    close(fd);
    if (length <= 0) return NULL;
    said[length] = 0;
    return strncmp(said, what, strlen(what)) == 0 ? said + strlen(what) : NULL;
}

static int chosen(int fd) {
    const char *files = getenv("FAULT_FILES");
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (!files || length < 0) return 0;
    path[length] = 0;
    return strstr(path, files) != NULL;
}

/* The error a write ends with, or 0. */
static int fault(int fd) {
    int before = errno, found = 0;
    if (chosen(fd)) found = ordered("full") ? ENOSPC : ordered("read-only") ? EROFS : 0;
    errno = before;
    return found;
}

static int sync_fault(int fd) {
    int before = errno, found = chosen(fd) && ordered("fsync") != NULL;
    errno = before;
    return found;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define FAIL_AS(error) do { int e = (error); if (e) { errno = e; return -1; } } while (0)

ssize_t write(int fd, const void *bytes, size_t length) {
    FAIL_AS(fault(fd));
    return REAL(write)(fd, bytes, length);
}
ssize_t pwrite(int fd, const void *bytes, size_t length, off_t at) {
    FAIL_AS(fault(fd));
    return REAL(pwrite)(fd, bytes, length, at);
}
ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t at) {
    FAIL_AS(fault(fd));
    return REAL(pwrite64)(fd, bytes, length, at);
}
int ftruncate(int fd, off_t length) {
    FAIL_AS(fault(fd));
    return REAL(ftruncate)(fd, length);
}
int ftruncate64(int fd, off64_t length) {
    FAIL_AS(fault(fd));
    return REAL(ftruncate64)(fd, length);
}
int fsync(int fd) {
    FAIL_AS(sync_fault(fd) ? EIO : 0);
    return REAL(fsync)(fd);
}
int fdatasync(int fd) {
    FAIL_AS(sync_fault(fd) ? EIO : 0);
    return REAL(fdatasync)(fd);
}
int clock_gettime(clockid_t clock, struct timespec *now) {
    int failed = REAL(clock_gettime)(clock, now), before = errno;
    const char *step = failed || clock != CLOCK_REALTIME ? NULL : ordered("clock ");
    if (step) now->tv_sec += atol(step);
    errno = before;
    return failed;
}
