package io.r2lock;

import java.util.Queue;
import java.util.concurrent.ConcurrentLinkedQueue;
import reactor.core.publisher.Operators;
import reactor.util.context.Context;

/**
 * Tells losses on threads where the holders' own code, which runs then, may block. A holder that blocks keeps nobody else from being
 * told while another thread is left: a task takes whatever waits, not what it was scheduled for, because the scheduler pins tasks to
 * threads.
 */
final class Losses {

    private static final Queue<Runnable> WAITING = new ConcurrentLinkedQueue<>();

    private Losses() {}

    static void tell(Runnable loss) {
        WAITING.add(loss);
        Opening.THREADS.schedule(Losses::tellWaiting);
    }

    private static void tellWaiting() {
        for (Runnable loss = WAITING.poll(); loss != null; loss = WAITING.poll()) {
            try {
                loss.run();
            } catch (Throwable thrown) {
                Operators.onErrorDropped(thrown, Context.empty());
            }
        }
    }
}
