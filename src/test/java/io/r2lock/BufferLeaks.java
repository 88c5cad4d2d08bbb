package io.r2lock;

import io.netty.buffer.ByteBufAllocator;
import io.netty.util.ResourceLeakDetector;
import java.lang.ref.PhantomReference;
import java.lang.ref.Reference;
import java.lang.ref.ReferenceQueue;

/** Makes Netty report the buffers that were dropped without a release. */
final class BufferLeaks {

    private static final int COLLECTIONS = 2; // a buffer may be reachable from what the first one only finalizes
    private static final long COLLECTION_MILLIS = 2_000;

    private BufferLeaks() {}

    /** Tracks every buffer that is allocated from now on. */
    static void watch() {
        ResourceLeakDetector.setLevel(ResourceLeakDetector.Level.PARANOID);
    }

    /** Tracks none of those that are allocated from now on. */
    static void ignore() {
        ResourceLeakDetector.setLevel(ResourceLeakDetector.Level.DISABLED);
    }

    /** Collects garbage, then allocates: the detector reports, in its log, when it tracks the next buffer. */
    static void report() {
        for (int i = 0; i < COLLECTIONS; i++) {
            ReferenceQueue<Object> collected = new ReferenceQueue<>();
            Reference<Object> canary = new PhantomReference<>(new Object(), collected);
            System.gc();
            try {
                // what became unreachable before the canary is queued by the collection that finds the canary
                collected.remove(COLLECTION_MILLIS);
            } catch (InterruptedException e) {
                Thread.currentThread().interrupt();
            } finally {
                Reference.reachabilityFence(canary);
            }
            ByteBufAllocator.DEFAULT.buffer(1).release();
        }
    }
}
