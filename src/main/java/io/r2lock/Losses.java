package io.r2lock;

import java.util.Queue;
import java.util.concurrent.ConcurrentLinkedQueue;
import reactor.core.publisher.Operators;
import reactor.util.context.Context;

/**
 * Tells holders that they have lost what they hold. That runs their own code, which may block: it keeps the thread that it runs on,
 * and nobody else from being told, as long as {@link Opening#THREADS} has another one.
 *
 * <p>One queue for all threads. The scheduler's own are one for each thread, chosen beforehand: of thousands who lose their locks
 * with one connection, some would stand behind one who blocks for ever.
 */
final class Losses {

    private static final Queue<Runnable> UNTOLD = new ConcurrentLinkedQueue<>();

    private Losses() {}

    /** Returns at once. */
    static void tell(Runnable told) {
        UNTOLD.add(told);
        Opening.THREADS.schedule(Losses::tellAll);
    }

    /** For each of them once; whoever comes first does what the others would find. */
    private static void tellAll() {
        for (Runnable next = UNTOLD.poll(); next != null; next = UNTOLD.poll()) {
            try {
                next.run();
            } catch (Throwable thrown) {
                Operators.onErrorDropped(thrown, Context.empty());
            }
        }
    }
}
