package io.r2lock;

import org.openjdk.jcstress.annotations.Actor;
import org.openjdk.jcstress.annotations.Arbiter;
import org.openjdk.jcstress.annotations.Expect;
import org.openjdk.jcstress.annotations.JCStressTest;
import org.openjdk.jcstress.annotations.Outcome;
import org.openjdk.jcstress.annotations.State;
import org.openjdk.jcstress.infra.results.II_Result;
import reactor.core.publisher.Mono;
import reactor.core.scheduler.Schedulers;
import reactor.pool.PooledRef;
import reactor.pool.PooledRefMetadata;

/** The pool delivers a connection to a borrower that cancels: it has it and is counted, or neither. */
@JCStressTest
@Outcome(id = "1, 0", expect = Expect.ACCEPTABLE, desc = "taken, and still counted as out")
@Outcome(id = "0, -1", expect = Expect.ACCEPTABLE, desc = "cancelled, and counted as back")
@Outcome(expect = Expect.FORBIDDEN, desc = "taken and counted as back, or the opposite")
@State
public class BorrowStress implements Borrow.Taker {

    private static final ClientOptions OPTIONS = FakeConnection.options(Schedulers.parallel(), 1);

    private final LockConnections connections = new LockConnections(generation -> Mono.never(), OPTIONS, 1);
    private final Borrow borrow = new Borrow(connections, this);
    private volatile int taken;

    public BorrowStress() {
        borrow.asks();
    }

    @Actor
    public void deliver() {
        borrow.take(new Slot());
    }

    @Actor
    public void cancel() {
        borrow.cancel();
    }

    @Arbiter
    public void look(II_Result result) {
        result.r1 = taken;
        result.r2 = connections.demand();
    }

    @Override
    public void taken(Lease lease) {
        taken = 1;
    }

    @Override
    public void notTaken(Throwable error) {
        throw new AssertionError(error);
    }

    @Override
    public void exhausted() {
        throw new AssertionError("this borrower waits");
    }

    /** Nobody looks into it. */
    private static final class Slot implements PooledRef<LockConnection> {

        @Override
        public Mono<Void> invalidate() {
            return Mono.empty();
        }

        @Override
        public PooledRefMetadata metadata() {
            throw new UnsupportedOperationException();
        }

        @Override
        public LockConnection poolable() {
            throw new UnsupportedOperationException();
        }

        @Override
        public Mono<Void> release() {
            return Mono.empty();
        }
    }
}
