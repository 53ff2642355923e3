/* A QEMU plugin that counts the instructions that the guest executes.
 *
 * The count stands in the first eight bytes of the file that the argument `out=` names, mapped shared, so that it can be
 * read at any time while the guest runs. Counted at the start of each translated block.
 *
 * Debian ships no qemu-plugin.h, so the few declarations that are needed stand here, as documented in QEMU's "TCG Plugins".
 * API_VERSION comes from the compiler's command line. */
#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define EXPORTED __attribute__((visibility("default")))

typedef uint64_t qemu_plugin_id_t;
struct qemu_info_t;
struct qemu_plugin_tb;
enum qemu_plugin_cb_flags { QEMU_PLUGIN_CB_NO_REGS };
typedef void (*translation_callback)(qemu_plugin_id_t, struct qemu_plugin_tb *);
typedef void (*execution_callback)(unsigned int vcpu, void *userdata);

void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t, translation_callback);
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *, execution_callback, enum qemu_plugin_cb_flags, void *);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);

EXPORTED int qemu_plugin_version = API_VERSION;

static volatile uint64_t *count;

static void executed(unsigned int vcpu, void *instructions)
{
    (void)vcpu;
    *count += (uintptr_t)instructions;
}

static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *block)
{
    (void)id;
    qemu_plugin_register_vcpu_tb_exec_cb(block, executed, QEMU_PLUGIN_CB_NO_REGS,
                                         (void *)(uintptr_t)qemu_plugin_tb_n_insns(block));
}

EXPORTED int qemu_plugin_install(qemu_plugin_id_t id, const struct qemu_info_t *info, int argc, char **argv)
{
    static const char option[] = "out=";
    const char *path = NULL;
    (void)info;
    for (int index = 0; index < argc; index++)
        if (!strncmp(argv[index], option, sizeof option - 1))
            path = argv[index] + sizeof option - 1;
    if (!path)
        return -1;
    int file = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    if (file < 0 || ftruncate(file, sizeof *count))
        return -1;
    void *page = mmap(NULL, sizeof *count, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (page == MAP_FAILED)
        return -1;
    count = page;
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    return 0;
}
