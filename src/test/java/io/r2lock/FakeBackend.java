package io.r2lock;

import io.r2dbc.postgresql.api.Notification;
import io.r2dbc.spi.R2dbcException;
import io.r2dbc.spi.R2dbcNonTransientResourceException;
import java.util.ArrayList;
import java.util.List;
import java.util.Queue;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.atomic.AtomicInteger;
import org.jspecify.annotations.Nullable;
import reactor.core.publisher.Flux;
import reactor.core.publisher.Mono;
import reactor.core.publisher.MonoSink;
import reactor.core.publisher.Sinks;
import reactor.core.scheduler.Schedulers;

/**
 * The other end of one {@link FakeConnection}: answers in order and on one thread at a time, as the driver does. The test can hold
 * the ends of transactions back, and with them what was sent behind.
 */
final class FakeBackend implements FakeConnection.Server {

    /** All backends of a test. */
    static final class Servers {

        private final List<FakeBackend> all = new CopyOnWriteArrayList<>();

        /** CancelRequests that came while the end of a transaction was still unanswered: those would have hit it. */
        final AtomicInteger endsHit = new AtomicInteger();

        final AtomicInteger cancelRequests = new AtomicInteger();

        private volatile boolean holdEnds;
        private volatile @Nullable R2dbcException commitFails;

        LockConnection open(int generation) {
            FakeBackend backend = new FakeBackend(this);
            all.add(backend);
            return FakeConnection.open(Schedulers.parallel(), backend);
        }

        int opened() {
            return all.size();
        }

        void holdEnds() {
            holdEnds = true;
        }

        /** COMMIT fails so from now on, or succeeds. */
        void commitFails(@Nullable R2dbcException error) {
            commitFails = error;
        }

        void answerEnds() {
            holdEnds = false;
            all.forEach(FakeBackend::drain);
        }

        /** Messages that wait for an answer. */
        int unanswered() {
            return all.stream().mapToInt(backend -> backend.queue.size()).sum();
        }

        void breakThoseInUse() {
            for (FakeBackend backend : new ArrayList<>(all)) {
                backend.breakDown();
            }
        }
    }

    private record Message(boolean isEnd, boolean isCommit, MonoSink<Boolean> answer) {}

    private final Servers servers;
    private final Queue<Message> queue = new ConcurrentLinkedQueue<>();
    private final AtomicInteger draining = new AtomicInteger();
    private final Sinks.Many<Notification> notifications =
            Sinks.many().multicast().directBestEffort();
    private volatile boolean closed;

    private FakeBackend(Servers servers) {
        this.servers = servers;
    }

    @Override
    public Mono<Boolean> message(String sql) {
        return send(sql.equals(LockSql.ROLLBACK), false);
    }

    @Override
    public Mono<Void> commit() {
        return send(true, true).then();
    }

    private Mono<Boolean> send(boolean isEnd, boolean isCommit) {
        return Mono.create(answer -> {
            queue.add(new Message(isEnd, isCommit, answer));
            drain();
        });
    }

    private void drain() {
        int missed = 1;
        if (draining.getAndIncrement() != 0) {
            return;
        }
        do {
            for (Message next = queue.peek(); next != null && isDue(next); next = queue.peek()) {
                queue.poll();
                answer(next);
            }
            missed = draining.addAndGet(-missed);
        } while (missed != 0);
    }

    private boolean isDue(Message next) {
        return closed || !next.isEnd() || !servers.holdEnds;
    }

    private void answer(Message next) {
        R2dbcException refused = servers.commitFails;
        if (closed) {
            next.answer().error(new R2dbcNonTransientResourceException("closed", "08006"));
        } else if (next.isCommit() && refused != null) {
            next.answer().error(refused);
        } else {
            next.answer().success(true);
        }
    }

    @Override
    public Mono<Void> cancelRequest() {
        return Mono.fromRunnable(() -> {
            servers.cancelRequests.incrementAndGet();
            Message running = queue.peek();
            if (running != null && running.isEnd()) {
                servers.endsHit.incrementAndGet();
            }
        });
    }

    @Override
    public Flux<Notification> notifications() {
        return notifications.asFlux();
    }

    /** Cut: what is unanswered fails, and then the connection says so. */
    void breakDown() {
        closed = true;
        drain();
        notifications.tryEmitComplete();
    }

    @Override
    public Mono<Void> close() {
        return Mono.fromRunnable(() -> {
            closed = true;
            drain();
        });
    }
}
