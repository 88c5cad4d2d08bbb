package io.r2lock.bench;

import com.zaxxer.hikari.HikariConfig;
import com.zaxxer.hikari.HikariDataSource;
import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.FutureTask;
import java.util.concurrent.atomic.LongAdder;
import java.util.function.LongSupplier;

/** What people write without Reactor: a blocked platform thread for each caller, pgjdbc and HikariCP. */
final class PgjdbcContender implements Contender {

    /** More of them only fight for two processors. */
    private static final int MOST_THREADS = 256;

    private final HikariDataSource pool;

    PgjdbcContender(String url, int connections) {
        HikariConfig config = new HikariConfig();
        config.setJdbcUrl(url);
        config.setMaximumPoolSize(connections);
        config.setAutoCommit(false);
        this.pool = new HikariDataSource(config);
    }

    @Override
    public String name() {
        return "pgjdbc";
    }

    @Override
    public int callers(int wanted) {
        return Math.min(wanted, MOST_THREADS);
    }

    private void cycle(long key) throws SQLException {
        try (Connection connection = pool.getConnection()) {
            try (PreparedStatement statement = connection.prepareStatement("SELECT pg_advisory_xact_lock(?)")) {
                statement.setLong(1, key);
                try (ResultSet rows = statement.executeQuery()) {
                    rows.next();
                }
            }
            connection.commit();
        }
    }

    /** The threads are started before the clock is. */
    @Override
    public double rate(int callers, double seconds, LongSupplier keys) {
        LongAdder cycles = new LongAdder();
        CountDownLatch go = new CountDownLatch(1);
        List<FutureTask<Void>> tasks = new ArrayList<>();
        for (int i = 0; i < callers(callers); i++) {
            FutureTask<Void> task = new FutureTask<>(() -> {
                go.await();
                long end = System.nanoTime() + (long) (seconds * 1e9);
                do {
                    cycle(keys.getAsLong());
                    cycles.increment();
                } while (System.nanoTime() < end);
                return null;
            });
            tasks.add(task);
            Thread thread = new Thread(task, "pgjdbc-" + i);
            thread.setDaemon(true);
            thread.start();
        }
        long start = System.nanoTime();
        go.countDown();
        tasks.forEach(PgjdbcContender::join);
        return cycles.sum() / ((System.nanoTime() - start) / 1e9);
    }

    private static void join(FutureTask<Void> task) {
        try {
            task.get();
        } catch (ExecutionException e) {
            throw new IllegalStateException("pgjdbc failed", e.getCause());
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
            throw new IllegalStateException(e);
        }
    }

    @Override
    public double median(double seconds, LongSupplier keys) {
        List<Long> samples = new ArrayList<>();
        long end = System.nanoTime() + (long) (seconds * 1e9);
        try {
            do {
                long start = System.nanoTime();
                cycle(keys.getAsLong());
                samples.add(System.nanoTime() - start);
            } while (System.nanoTime() < end);
        } catch (SQLException e) {
            throw new IllegalStateException("pgjdbc failed", e);
        }
        return Spread.median(samples) / 1e3;
    }

    @Override
    public void close() {
        pool.close();
    }
}
