/* Loops over DPDK's rte_mbuf, compiled and loaded by the benchmark when libdpdk is installed.
 * The loops are in C because rte_mbuf's functions are inline functions of its headers. */
#include <stdint.h>
#include <string.h>

#include <rte_eal.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>

static struct rte_mempool *pool;
static struct rte_mbuf *packet;

/* The compiler must assume that everything behind the pointer was read and written. */
#define OBSERVE(pointer) __asm__ volatile("" : : "r"(pointer) : "memory")

int dpdk_setup(void)
{
    static char *arguments[] = {"netbuf", "--no-huge", "--no-shconf", "--no-pci", "--no-telemetry",
                                "--log-level=error", "-m", "64", "-l", "0"};
    if (rte_eal_init(sizeof(arguments) / sizeof(arguments[0]), arguments) < 0)
        return -1;
    pool = rte_pktmbuf_pool_create("netbuf", 4095, 256, 0, RTE_MBUF_DEFAULT_BUF_SIZE, SOCKET_ID_ANY);
    if (pool == NULL)
        return -2;
    packet = rte_pktmbuf_alloc(pool);
    if (packet == NULL)
        return -3;
    memset(rte_pktmbuf_append(packet, 1000), 0x5a, 1000);
    return 0;
}

void dpdk_alloc_free(uint64_t count)
{
    while (count--) {
        struct rte_mbuf *buffer = rte_pktmbuf_alloc(pool);
        OBSERVE(buffer);
        rte_pktmbuf_free(buffer);
    }
}

void dpdk_clone_free(uint64_t count)
{
    while (count--) {
        struct rte_mbuf *clone = rte_pktmbuf_clone(packet, pool);
        OBSERVE(clone);
        rte_pktmbuf_free(clone);
    }
}

void dpdk_prepend_adj(uint64_t count)
{
    while (count--) {
        char *header = rte_pktmbuf_prepend(packet, 14);
        OBSERVE(header);
        header = rte_pktmbuf_adj(packet, 14);
        OBSERVE(header);
    }
}

void dpdk_copy_free(uint64_t count)
{
    while (count--) {
        struct rte_mbuf *copy = rte_pktmbuf_copy(packet, pool, 0, UINT32_MAX);
        OBSERVE(copy);
        rte_pktmbuf_free(copy);
    }
}
