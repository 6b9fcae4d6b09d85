/* Keeps of a folder's files what a power failure would leave, by LD_PRELOAD.

   POWERLOSS_DISK is the folder, POWERLOSS_KEPT another one beside it. There is
   - `<inode>`: the bytes of a file as of its last fsync or fdatasync;
   - `names`: lines `<inode> <name>` as of the folder's last fsync: no file that was
     created, and no unlink, counts before. Whoever wants the other extreme, a disk on
     which these count at once, reads the names from the folder itself.
   POWERLOSS_LUCK percent of the sectors that are written reach the disk at once and in
   any order, as they do when the system has time to write; 0 by default.
   What is there when the process first opens a file there counts as kept. */

#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FILES = 1024, DESCRIPTORS = 4096, SECTOR = 512, FOLDER = -1 };

struct file {
    ino_t inode;
    int kept;
    off_t from, to; /* written since the last sync */
};

static struct file files[FILES];
static int count;
static int of[DESCRIPTORS]; /* 0, FOLDER, or 1 + the number of a file */
static const char *disk, *keep;
static int luck;
static ino_t folder;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static void fail(const char *what)
{
    perror(what);
    _exit(99);
}

static void keep_names(void)
{
    char path[4096], before[4096];
    snprintf(before, sizeof before, "%s/names.new", keep);
    snprintf(path, sizeof path, "%s/names", keep);
    FILE *names = fopen(before, "w");
    DIR *listing = opendir(disk);
    if (names == NULL || listing == NULL) fail("powerloss: names");
    for (struct dirent *one; (one = readdir(listing)) != NULL;)
        if (one->d_name[0] != '.')
            fprintf(names, "%lu %s\n", (unsigned long)one->d_ino, one->d_name);
    closedir(listing);
    fclose(names);
    if (rename(before, path) != 0) fail("powerloss: names");
}

/* Is it in the folder, or the folder? The first time that anything is, begin. */
static int is_ours(const char *path)
{
    const char *wanted = disk ? disk : getenv("POWERLOSS_DISK");
    if (wanted == NULL || strncmp(path, wanted, strlen(wanted)) != 0) return 0;
    char end = path[strlen(wanted)];
    if (end != '/' && end != '\0') return 0;
    if (disk == NULL) {
        struct stat is;
        const char *percent = getenv("POWERLOSS_LUCK");
        keep = strdup(getenv("POWERLOSS_KEPT"));
        luck = percent ? atoi(percent) : 0;
        disk = strdup(wanted);
        srandom(getpid());
        if (stat(disk, &is) != 0) fail("powerloss: disk");
        folder = is.st_ino;
        keep_names();
    }
    return 1;
}

static void copy(int from, struct file *file, off_t start, off_t end)
{
    static char bytes[1 << 16];
    while (start < end) {
        size_t size = sizeof bytes;
        if (end - start < (off_t)size) size = end - start;
        ssize_t got = pread(from, bytes, size, start);
        if (got <= 0) break;
        if (REAL(pwrite)(file->kept, bytes, got, start) != got) fail("powerloss: copy");
        start += got;
    }
}

static void track(int descriptor, int is_new)
{
    struct stat is;
    char path[4096];
    if (descriptor >= DESCRIPTORS || fstat(descriptor, &is) != 0) return;
    if (is.st_ino == folder) of[descriptor] = FOLDER;
    if (!S_ISREG(is.st_mode)) return;
    int number = 0;
    while (number < count && files[number].inode != is.st_ino) number++;
    if (number == count) {
        if (++count > FILES) fail("powerloss: too many files");
        snprintf(path, sizeof path, "%s/%lu", keep, (unsigned long)is.st_ino);
        int kept = REAL(open)(path, O_RDWR | O_CREAT | O_CLOEXEC | O_TRUNC, 0600);
        if (kept < 0) fail(path);
        files[number] = (struct file){is.st_ino, kept, 0, 0};
        if (!is_new) copy(descriptor, &files[number], 0, is.st_size);
    }
    of[descriptor] = 1 + number;
}

static struct file *file_of(int descriptor)
{
    if (descriptor < 0 || descriptor >= DESCRIPTORS || of[descriptor] <= 0) return NULL;
    return &files[of[descriptor] - 1];
}

static int opened(__typeof__(&open) real, const char *path, int flags, mode_t mode)
{
    if (!is_ours(path)) return real(path, flags, mode);
    pthread_mutex_lock(&lock);
    int is_new = access(path, F_OK) != 0;
    int descriptor = real(path, flags, mode);
    if (descriptor >= 0) track(descriptor, is_new);
    pthread_mutex_unlock(&lock);
    return descriptor;
}

#define OPEN(name)                                      \
    int name(const char *path, int flags, ...)          \
    {                                                   \
        va_list rest;                                   \
        va_start(rest, flags);                          \
        mode_t mode = va_arg(rest, int);                \
        va_end(rest);                                   \
        return opened(REAL(name), path, flags, mode);   \
    }

OPEN(open)
OPEN(open64)

int close(int descriptor)
{
    if (descriptor >= 0 && descriptor < DESCRIPTORS) of[descriptor] = 0;
    return REAL(close)(descriptor);
}

static void written(int descriptor, const char *bytes, ssize_t size, off_t start)
{
    struct file *file = file_of(descriptor);
    if (file == NULL || size <= 0) return;
    pthread_mutex_lock(&lock);
    if (file->to == 0 || start < file->from) file->from = start;
    if (start + size > file->to) file->to = start + size;
    for (off_t at = start; luck && at < start + size;) {
        off_t next = (at / SECTOR + 1) * SECTOR;
        if (next > start + size) next = start + size;
        if (random() % 100 < luck &&
            REAL(pwrite)(file->kept, bytes + (at - start), next - at, at) < 0)
            fail("powerloss: luck");
        at = next;
    }
    pthread_mutex_unlock(&lock);
}

#define PWRITE(name, type)                                                   \
    ssize_t name(int descriptor, const void *bytes, size_t size, type start) \
    {                                                                        \
        ssize_t done = REAL(name)(descriptor, bytes, size, start);           \
        written(descriptor, bytes, done, start);                             \
        return done;                                                         \
    }

PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

static int synced(int descriptor)
{
    struct file *file = file_of(descriptor);
    struct stat is;
    pthread_mutex_lock(&lock);
    if (file != NULL && fstat(descriptor, &is) == 0) {
        copy(descriptor, file, file->from, file->to);
        if (ftruncate(file->kept, is.st_size) != 0) fail("powerloss: size");
        file->from = file->to = 0;
    } else {
        keep_names();
    }
    pthread_mutex_unlock(&lock);
    return 0;
}

#define SYNC(name)                                                         \
    int name(int descriptor)                                               \
    {                                                                      \
        int is_known = descriptor >= 0 && descriptor < DESCRIPTORS;        \
        if (is_known && of[descriptor] != 0) return synced(descriptor);    \
        return REAL(name)(descriptor);                                     \
    }

SYNC(fsync)
SYNC(fdatasync)

/* Its inode lives on under another name, so that no new file gets the number. */
int unlink(const char *path)
{
    static int number;
    char held[4096];
    if (is_ours(path)) {
        snprintf(held, sizeof held, "%s/held-%d-%d", keep, getpid(), number++);
        if (link(path, held) != 0 && access(path, F_OK) == 0) fail(held);
    }
    return REAL(unlink)(path);
}
