/* A fault layer between a process and its disk and clock, loaded with LD_PRELOAD (faultlayer.py compiles and drives it).

   FAULTS_CONTROL  a file of rules, shared with the test: which calls fail, wait or kill, and how far the clock is off
   FAULTS_ROOT     the folder whose files count as the disk
   FAULTS_CLOCK_MS how far the wall clock of this process is ahead, or behind, all the time; needs no other variable
   FAULTS_SHADOW   a folder on the same file system; there stands what a power loss leaves

   The shadow. POSIX promises after a power loss what was fsynced: the bytes of a file at its last fsync, the entries of
   a folder at its last fsync. So before each real fsync of a file its bytes are copied (<inode>.data: their number in 8
   bytes, then they), and of a folder its entries are listed (dir.<hash of its path>). A hard link (<inode>.link) keeps
   each inode, so that its number is not given to another file. Whatever is killed at whatever instruction, the shadow is
   that of the last fsync that ended or of the one at work. */

#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { WRITE = 1, SYNC = 2, READ = 4, CLOCK = 8 };
enum { RULES = 8 };

struct rule {
    int32_t calls; /* which calls it is for; 0: unused */
    int32_t error; /* what they fail with; 0: they go on after the wait; negative: the signal that they raise */
    int64_t after; /* how many it lets pass first */
    int64_t left;  /* how many it still strikes; negative: all */
    int64_t ms;    /* how long they wait, or how far the clock is ahead */
    int64_t hits;  /* how many it has struck */
    int64_t pid;   /* whose clock it is; 0: everybody's */
    char path[96]; /* part of the path */
};

static struct rule *rules;
static const char *root, *shadow;
static int64_t always_ahead_ms;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

#define REAL(name) ((__typeof__(&name))real(#name))

static void *real(const char *name) { return dlsym(RTLD_NEXT, name); }

static ssize_t (*real_write)(int, const void *, size_t);
static ssize_t (*real_pwrite)(int, const void *, size_t, off_t);
static ssize_t (*real_read)(int, void *, size_t);
static ssize_t (*real_pread)(int, void *, size_t, off_t);
static ssize_t (*real_writev)(int, const struct iovec *, int);
static int (*real_fsync)(int), (*real_fdatasync)(int);
static int (*real_clock)(clockid_t, struct timespec *);

__attribute__((constructor)) static void begin(void) {
    real_write = REAL(write), real_pwrite = REAL(pwrite), real_read = REAL(read), real_pread = REAL(pread);
    real_writev = REAL(writev), real_fsync = REAL(fsync), real_fdatasync = REAL(fdatasync);
    real_clock = REAL(clock_gettime);
    root = getenv("FAULTS_ROOT"), shadow = getenv("FAULTS_SHADOW");
    const char *ahead = getenv("FAULTS_CLOCK_MS");
    always_ahead_ms = ahead ? atoll(ahead) : 0;
    const char *control = getenv("FAULTS_CONTROL");
    int fd = control ? open(control, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0) return;
    void *mapped = mmap(NULL, RULES * sizeof(struct rule), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (mapped != MAP_FAILED) rules = mapped;
}

static int on_disk(int fd, char *path, size_t size) {
    char name[32];
    snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(name, path, size - 1);
    if (length <= 0) return 0;
    path[length] = 0;
    return root && strncmp(path, root, strlen(root)) == 0 && path[strlen(root)] == '/';
}

/* Wait or fail as the rules say: returns the error, or 0. */
static int struck(int call, int fd) {
    char path[4096];
    int looked = 0;
    if (!rules) return 0;
    for (int i = 0; i < RULES; i++) {
        struct rule *rule = &rules[i];
        if (!(__atomic_load_n(&rule->calls, __ATOMIC_ACQUIRE) & call)) continue;
        if (!looked && !on_disk(fd, path, sizeof path)) return 0;
        looked = 1;
        if (!strstr(path, rule->path)) continue;
        if (rule->after > 0 && __atomic_fetch_sub(&rule->after, 1, __ATOMIC_ACQ_REL) > 0) continue;
        if (rule->left >= 0 && __atomic_fetch_sub(&rule->left, 1, __ATOMIC_ACQ_REL) <= 0) {
            __atomic_store_n(&rule->left, 0, __ATOMIC_RELEASE);
            continue;
        }
        int error = rule->error;
        int64_t ms = rule->ms;
        __atomic_fetch_add(&rule->hits, 1, __ATOMIC_ACQ_REL);
        if (ms > 0) {
            struct timespec wait = {ms / 1000, ms % 1000 * 1000000};
            while (nanosleep(&wait, &wait) && errno == EINTR) {}
        }
        if (error < 0) kill(getpid(), -error);
        return error;
    }
    return 0;
}

static int write_whole(int fd, const char *bytes, size_t size, off_t at) {
    while (size) {
        ssize_t done = real_pwrite(fd, bytes, size, at);
        if (done <= 0) return -1;
        bytes += done, size -= done, at += done;
    }
    return 0;
}

/* Append the bytes from `from` on of file `source` to `target`, behind its number of bytes; the number goes last. */
static void copy_bytes(int source, int target, uint64_t from) {
    static char buffer[1 << 18];
    ssize_t got;
    while ((got = real_pread(source, buffer, sizeof buffer, from)) > 0) {
        if (write_whole(target, buffer, got, 8 + from)) abort();
        from += got;
    }
    if (got < 0 || write_whole(target, (char *)&from, 8, 0)) abort();
}

static void keep_inode(const char *path, ino_t inode) {
    char link_name[4096];
    snprintf(link_name, sizeof link_name, "%s/%lu.link", shadow, (unsigned long)inode);
    (void)!link(path, link_name);
}

static void record_file(int fd, const char *path, const struct stat *status) {
    char name[4096], fresh[4200];
    snprintf(name, sizeof name, "%s/%lu.data", shadow, (unsigned long)status->st_ino);
    if (status->st_nlink == 0) return;
    keep_inode(path, status->st_ino);
    int source = open(path, O_RDONLY | O_CLOEXEC);
    if (source < 0) return; /* gone meanwhile */
    uint64_t length = 0;
    int target = (fcntl(fd, F_GETFL) & O_APPEND) ? open(name, O_RDWR | O_CLOEXEC) : -1;
    if (target >= 0 && real_pread(target, &length, 8, 0) == 8) {
        copy_bytes(source, target, length);
    } else {
        snprintf(fresh, sizeof fresh, "%s.new", name);
        int made = open(fresh, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        if (made < 0) abort();
        copy_bytes(source, made, 0);
        close(made);
        if (rename(fresh, name)) abort();
    }
    if (target >= 0) close(target);
    close(source);
}

static void record_folder(const char *path) {
    char name[4096], fresh[4200], entry_path[8192];
    uint64_t hash = 14695981039346656037u; /* FNV-1a */
    for (const char *c = path; *c; c++) hash = (hash ^ (unsigned char)*c) * 1099511628211u;
    snprintf(name, sizeof name, "%s/dir.%016lx", shadow, (unsigned long)hash);
    snprintf(fresh, sizeof fresh, "%s.new", name);
    DIR *folder = opendir(path);
    if (!folder) return;
    FILE *list = fopen(fresh, "we");
    if (!list) abort();
    for (struct dirent *entry; (entry = readdir(folder));) {
        struct stat status;
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")) continue;
        snprintf(entry_path, sizeof entry_path, "%s/%s", path, entry->d_name);
        if (lstat(entry_path, &status)) continue;
        if (S_ISREG(status.st_mode)) keep_inode(entry_path, status.st_ino);
        if (S_ISREG(status.st_mode) || S_ISDIR(status.st_mode))
            fprintf(list, "%c %lu %s\n", S_ISDIR(status.st_mode) ? 'd' : 'f', (unsigned long)status.st_ino, entry->d_name);
    }
    closedir(folder);
    if (fclose(list) || rename(fresh, name)) abort();
}

static void record(int fd) {
    char path[4096];
    struct stat status;
    if (!shadow || !on_disk(fd, path, sizeof path) || fstat(fd, &status)) return;
    pthread_mutex_lock(&lock);
    if (S_ISDIR(status.st_mode)) record_folder(path);
    if (S_ISREG(status.st_mode)) record_file(fd, path, &status);
    pthread_mutex_unlock(&lock);
}

#define STRIKE(call, fd)                 \
    do {                                 \
        int error = struck(call, fd);    \
        if (error) return errno = error, -1; \
    } while (0)

int fsync(int fd) {
    STRIKE(SYNC, fd);
    record(fd);
    return real_fsync(fd);
}

int fdatasync(int fd) {
    STRIKE(SYNC, fd);
    record(fd);
    return real_fdatasync(fd);
}

ssize_t write(int fd, const void *bytes, size_t size) {
    STRIKE(WRITE, fd);
    return real_write(fd, bytes, size);
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    STRIKE(WRITE, fd);
    return real_writev(fd, parts, count);
}

ssize_t pwrite(int fd, const void *bytes, size_t size, off_t at) {
    STRIKE(WRITE, fd);
    return real_pwrite(fd, bytes, size, at);
}

ssize_t pwrite64(int fd, const void *bytes, size_t size, off_t at) {
    STRIKE(WRITE, fd);
    return real_pwrite(fd, bytes, size, at);
}

ssize_t read(int fd, void *bytes, size_t size) {
    STRIKE(READ, fd);
    return real_read(fd, bytes, size);
}

ssize_t pread(int fd, void *bytes, size_t size, off_t at) {
    STRIKE(READ, fd);
    return real_pread(fd, bytes, size, at);
}

ssize_t pread64(int fd, void *bytes, size_t size, off_t at) {
    STRIKE(READ, fd);
    return real_pread(fd, bytes, size, at);
}

static int64_t ahead_ms(void) {
    int64_t ms = always_ahead_ms;
    for (int i = 0; rules && i < RULES; i++)
        if (__atomic_load_n(&rules[i].calls, __ATOMIC_ACQUIRE) & CLOCK) {
            if (rules[i].pid && rules[i].pid != getpid()) continue;
            ms += rules[i].ms;
            __atomic_fetch_add(&rules[i].hits, 1, __ATOMIC_ACQ_REL);
        }
    return ms;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int failed = real_clock(clock, now);
    int64_t ms = !failed && clock == CLOCK_REALTIME ? ahead_ms() : 0;
    if (ms) {
        int64_t nanoseconds = now->tv_nsec + ms % 1000 * 1000000;
        now->tv_sec += ms / 1000;
        now->tv_sec += nanoseconds < 0 ? -1 : nanoseconds / 1000000000;
        now->tv_nsec = nanoseconds < 0 ? nanoseconds + 1000000000 : nanoseconds % 1000000000;
    }
    return failed;
}

int gettimeofday(struct timeval *now, void *zone) {
    struct timespec precise;
    (void)zone;
    int failed = clock_gettime(CLOCK_REALTIME, &precise);
    now->tv_sec = precise.tv_sec, now->tv_usec = precise.tv_nsec / 1000;
    return failed;
}

time_t time(time_t *seconds) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (seconds) *seconds = now.tv_sec;
    return now.tv_sec;
}
