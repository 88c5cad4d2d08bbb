package io.r2lock;

import java.util.ArrayList;
import java.util.List;
import java.util.Queue;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.jspecify.annotations.Nullable;

/** Borrows lock connections past all locks, as their next user would, and asks the server what they stand in. */
final class CleanBorrowers {

    /** In a transaction that somebody else began, {@code now()} is the time of its beginning. */
    static final String IS_CLEAN = "select now() = statement_timestamp() and pg_current_xact_id_if_assigned() is null"
            + " and current_setting('lock_timeout') = '0' and not exists (select from pg_locks"
            + " where pid = pg_backend_pid() and locktype = 'advisory')";

    private final LockConnections connections;
    private final AtomicInteger clean = new AtomicInteger();
    private final Queue<String> dirty = new ConcurrentLinkedQueue<>();

    CleanBorrowers(LockConnections connections) {
        this.connections = connections;
    }

    int clean() {
        return clean.get();
    }

    Queue<String> dirty() {
        return dirty;
    }

    /** Borrows one when one is free, and does not wait for that. */
    void borrowOne() {
        connections.borrow(new Borrow(connections, new Checker(null)));
    }

    /** Borrows so many at once, checks each, then gives all back. */
    void borrowAll(int count) {
        CountDownLatch checked = new CountDownLatch(count);
        List<Checker> checkers = new ArrayList<>();
        for (int i = 0; i < count; i++) {
            checkers.add(new Checker(checked));
        }
        checkers.forEach(checker -> connections.borrow(new Borrow(connections, checker)));
        try {
            if (!checked.await(10, TimeUnit.SECONDS)) {
                throw new AssertionError(checked.getCount() + " connections were not to be had");
            }
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
            throw new AssertionError(e);
        }
        checkers.forEach(Checker::giveBack);
    }

    private final class Checker implements Borrow.Taker {

        /** {@code null}: gives the connection back as soon as it is checked. */
        private final @Nullable CountDownLatch all;

        private volatile @Nullable Lease lease;

        Checker(@Nullable CountDownLatch all) {
            this.all = all;
        }

        @Override
        public void taken(Lease taken) {
            lease = taken;
            LockConnection connection = taken.connection();
            connection.ask(IS_CLEAN, (error, yes) -> {
                if (error != null || !yes || connection.isInTransaction()) {
                    dirty.add("backend " + connection.pid() + ": " + error);
                } else {
                    clean.incrementAndGet();
                }
                checked();
            });
        }

        private void checked() {
            if (all == null) {
                giveBack();
            } else {
                all.countDown();
            }
        }

        void giveBack() {
            Lease taken = lease;
            if (taken != null) {
                taken.giveBack();
            }
        }

        @Override
        public void notTaken(Throwable error) {
            dirty.add("no connection: " + error);
            checked();
        }

        @Override
        public void exhausted() {
            throw new AssertionError("this borrower waits");
        }
    }
}
