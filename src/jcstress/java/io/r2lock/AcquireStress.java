package io.r2lock;

import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.openjdk.jcstress.annotations.Actor;
import org.openjdk.jcstress.annotations.Arbiter;
import org.openjdk.jcstress.annotations.Expect;
import org.openjdk.jcstress.annotations.JCStressTest;
import org.openjdk.jcstress.annotations.Outcome;
import org.openjdk.jcstress.annotations.State;
import org.openjdk.jcstress.infra.results.III_Result;
import reactor.core.Disposable;
import reactor.core.Disposables;
import reactor.core.publisher.Mono;
import reactor.core.publisher.Sinks;
import reactor.core.scheduler.Scheduler;

/**
 * One attempt that two events end at once. The results are the grants, the errors told, and how often it was
 * undone, plus 10 for a CancelRequest.
 */
public class AcquireStress {

    private static final LockSpec SPEC = LockSpec.of(List.of(LockKey.of(1)), LockMode.EXCLUSIVE, null);
    private static final Scheduler STOPPED_CLOCK = new StoppedClock();
    private static final DefaultAdvisoryLocks CLIENT = new DefaultAdvisoryLocks(
            FakeConnection.source(generation -> Mono.never()), FakeConnection.options(STOPPED_CLOCK, 2));

    /** Nothing that is due later ever comes. */
    private static final class StoppedClock implements Scheduler {

        @Override
        public Disposable schedule(Runnable task) {
            return Disposables.disposed();
        }

        @Override
        public Disposable schedule(Runnable task, long delay, TimeUnit unit) {
            return Disposables.disposed();
        }

        @Override
        public Disposable schedulePeriodically(Runnable task, long initialDelay, long period, TimeUnit unit) {
            return Disposables.disposed();
        }

        @Override
        public Worker createWorker() {
            throw new UnsupportedOperationException();
        }
    }

    private static final class Told implements Acquire.Receiver {

        final AtomicInteger errors = new AtomicInteger();

        @Override
        public void admitted(Acquire attempt) {
            throw new AssertionError("the attempt is there already");
        }

        @Override
        public void granted(Hold hold) {
            throw new AssertionError("the attempt delivers no hold");
        }

        @Override
        public void failed(Throwable error) {
            errors.incrementAndGet();
        }
    }

    /** Counts instead of doing. */
    private static final class Attempt extends StatementAcquire {

        final AtomicInteger grants = new AtomicInteger();
        final AtomicInteger undone = new AtomicInteger();
        final AtomicInteger cancelRequests = new AtomicInteger();

        Attempt(Receiver receiver) {
            super(CLIENT, SPEC, null, receiver);
        }

        @Override
        void begin() {
            advance(QUEUED, BORROWING);
        }

        @Override
        void withdraw() {
            undone.incrementAndGet();
        }

        @Override
        void granted() {
            grants.incrementAndGet();
        }

        @Override
        void refused(Throwable error) {
            throw new AssertionError(error);
        }

        @Override
        void undo() {
            undone.incrementAndGet();
            stopped();
        }
    }

    abstract static class Begun {

        final Told told = new Told();
        final Attempt attempt = new Attempt(told);

        Begun() {
            attempt.begin();
        }

        final void count(III_Result result) {
            result.r1 = attempt.grants.get();
            result.r2 = told.errors.get();
            result.r3 = attempt.undone.get() + 10 * attempt.cancelRequests.get();
        }
    }

    /** A statement on its way, and whoever answers it. */
    abstract static class Sent extends Begun {

        final Sinks.One<Boolean> answer = Sinks.one();

        Sent() {
            LockConnection connection = FakeConnection.open(
                    STOPPED_CLOCK,
                    sql -> answer.asMono(),
                    () -> Mono.fromRunnable(attempt.cancelRequests::incrementAndGet));
            attempt.lock(connection, "lock", true);
        }

        final void grant() {
            answer.tryEmitValue(true);
        }
    }

    /** The server grants while the caller cancels. */
    @JCStressTest
    @Outcome(id = "1, 0, 0", expect = Expect.ACCEPTABLE, desc = "granted")
    @Outcome(
            id = {"0, 0, 1", "0, 0, 11"},
            expect = Expect.ACCEPTABLE,
            desc = "cancelled, undone, nobody told")
    @Outcome(expect = Expect.FORBIDDEN, desc = "both, or neither")
    @State
    public static class GrantOrCancel extends Sent {

        @Actor
        public void answered() {
            grant();
        }

        @Actor
        public void cancel() {
            attempt.stop(Acquire.Stop.CANCELLED);
        }

        @Arbiter
        public void look(III_Result result) {
            count(result);
        }
    }

    /** The server grants while the time runs out. */
    @JCStressTest
    @Outcome(id = "1, 0, 0", expect = Expect.ACCEPTABLE, desc = "granted")
    @Outcome(
            id = {"0, 1, 1", "0, 1, 11"},
            expect = Expect.ACCEPTABLE,
            desc = "timed out, undone, told once")
    @Outcome(expect = Expect.FORBIDDEN, desc = "both, or neither")
    @State
    public static class GrantOrTimeout extends Sent {

        @Actor
        public void answered() {
            grant();
        }

        @Actor
        public void timeout() {
            attempt.stop(Acquire.Stop.TIMED_OUT);
        }

        @Arbiter
        public void look(III_Result result) {
            count(result);
        }
    }

    /** The time runs out while the client is closed, before anything was sent. */
    @JCStressTest
    @Outcome(id = "0, 1, 1", expect = Expect.ACCEPTABLE, desc = "withdrawn once, told once")
    @Outcome(expect = Expect.FORBIDDEN, desc = "told twice, or not at all")
    @State
    public static class TimeoutOrClose extends Begun {

        @Actor
        public void timeout() {
            attempt.stop(Acquire.Stop.TIMED_OUT);
        }

        @Actor
        public void close() {
            attempt.stop(Acquire.Stop.CLOSED);
        }

        @Arbiter
        public void look(III_Result result) {
            count(result);
        }
    }
}
