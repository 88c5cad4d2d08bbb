package io.r2lock;

import static org.assertj.core.api.Assertions.assertThat;

import java.util.Objects;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicReference;
import org.jspecify.annotations.Nullable;
import org.junit.jupiter.api.Test;
import reactor.core.publisher.Mono;
import reactor.core.scheduler.Schedulers;
import reactor.test.util.RaceTestUtils;

/** A borrower that cancels at any instant: the connection is with nobody, or with it, and is counted so. */
class BorrowRaceTest {

    private static final int ROUNDS = 10_000;

    private final LockConnections connections = new LockConnections(
            generation -> Mono.fromSupplier(FakeConnection::granting),
            FakeConnection.options(Schedulers.parallel(), 1),
            1);

    /** Remembers what it was told, and gives back what it was given. */
    private static final class Taker implements Borrow.Taker {

        private final AtomicInteger told = new AtomicInteger();
        private final AtomicReference<@Nullable Lease> lease = new AtomicReference<>();

        @Override
        public void taken(Lease taken) {
            told.incrementAndGet();
            lease.set(taken);
        }

        @Override
        public void notTaken(Throwable error) {
            throw new AssertionError(error);
        }

        @Override
        public void exhausted() {
            told.incrementAndGet();
        }

        boolean has() {
            return lease.get() != null;
        }

        void giveBack() {
            Lease taken = lease.getAndSet(null);
            if (taken != null) {
                taken.giveBack();
            }
        }
    }

    private static void race(int round, Runnable one, Runnable other) {
        if (round % 2 == 0) {
            RaceTestUtils.race(one, other);
        } else {
            RaceTestUtils.race(other, one);
        }
    }

    private void assertAllBack() {
        assertThat(connections.acquired()).isZero();
        assertThat(connections.pending()).isZero();
        assertThat(connections.demand()).isZero();
        assertThat(connections.settled()).isZero();
    }

    private Taker holder() {
        Taker holder = new Taker();
        connections.borrow(new Borrow(connections, holder));
        Await.until("a connection", holder::has);
        return holder;
    }

    @Test
    void askRacesCancel() {
        holder().giveBack();
        for (int i = 0; i < ROUNDS; i++) {
            Taker taker = new Taker();
            Borrow borrow = new Borrow(connections, taker);
            race(i, () -> connections.borrow(borrow), borrow::cancel);
            taker.giveBack();
            assertThat(taker.told.get()).isLessThanOrEqualTo(1);
            assertAllBack();
        }
    }

    @Test
    void deliveryRacesCancel() {
        for (int i = 0; i < ROUNDS; i++) {
            Taker holder = holder();
            Taker taker = new Taker();
            Borrow borrow = new Borrow(connections, taker);
            connections.borrow(borrow);
            assertThat(connections.pending()).isEqualTo(1);
            race(i, holder::giveBack, borrow::cancel);
            taker.giveBack();
            assertThat(taker.told.get()).isLessThanOrEqualTo(1);
            assertAllBack();
        }
    }

    @Test
    void handOverByAPollRacesCancel() {
        for (int i = 0; i < ROUNDS; i++) {
            Taker poller = holder();
            Lease polled = Objects.requireNonNull(poller.lease.get());
            Taker taker = new Taker();
            Borrow borrow = new Borrow(connections, taker);
            connections.borrowNow(borrow);
            assertThat(taker.told).as("waits for the poll").hasValue(0);
            race(i, polled::giveBack, borrow::cancel);
            taker.giveBack();
            assertThat(taker.told.get()).isLessThanOrEqualTo(1);
            assertAllBack();
        }
    }

    @Test
    void endOfThePollRacesAsking_nobodyIsForgotten() {
        for (int i = 0; i < ROUNDS; i++) {
            Taker poller = holder();
            Lease polled = Objects.requireNonNull(poller.lease.get());
            Taker taker = new Taker();
            Borrow borrow = new Borrow(connections, taker);
            race(i, polled::giveBack, () -> connections.borrowNow(borrow));
            assertThat(taker.told)
                    .as("told that it has one, or that there is none")
                    .hasValue(1);
            taker.giveBack();
            assertAllBack();
        }
    }

    @Test
    void refusalRacesCancel() {
        for (int i = 0; i < ROUNDS; i++) {
            Taker holder = holder();
            Lease granted = Objects.requireNonNull(holder.lease.get());
            Taker taker = new Taker();
            Borrow borrow = new Borrow(connections, taker);
            connections.borrowNow(borrow);
            race(i, granted::settle, borrow::cancel);
            assertThat(taker.told.get()).isLessThanOrEqualTo(1);
            holder.giveBack();
            assertAllBack();
        }
    }
}
