package io.r2lock;

import io.r2dbc.postgresql.PostgresqlConnectionFactory;
import io.r2dbc.postgresql.api.PostgresqlConnection;
import java.time.Duration;
import java.util.Queue;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.function.Function;
import org.jspecify.annotations.Nullable;
import reactor.core.Disposable;
import reactor.core.publisher.Mono;
import reactor.core.publisher.MonoSink;
import reactor.core.scheduler.Scheduler;
import reactor.core.scheduler.Schedulers;

/**
 * Something that opens connections, in limited time: {@code OPEN ──▶ DECIDED} by its result, its error or its deadline.
 *
 * <p>Its steps are never cancelled, because neither the driver's connecting nor its statements can be. What it has opened is
 * closed when it ends without a result, and so is what comes after that.
 *
 * @param <T> the result
 */
final class Opening<T> {

    /**
     * Where connecting begins, and where {@link Losses} are told: threads of r2lock's own, that end when idle. On an event loop of the
     * driver the new connection would live on that same loop; and Reactor's shared ones may all be blocked by the work of others.
     */
    static final Scheduler THREADS = Schedulers.newBoundedElastic(
            Schedulers.DEFAULT_BOUNDED_ELASTIC_SIZE, Schedulers.DEFAULT_BOUNDED_ELASTIC_QUEUESIZE, "r2lock", 60, true);

    private final ClientOptions options;
    private final Duration limit;
    private final MonoSink<T> sink;
    private final AtomicBoolean decided = new AtomicBoolean();
    private final Queue<PostgresqlConnection> opened = new ConcurrentLinkedQueue<>();
    private volatile boolean inVain;
    private volatile @Nullable Disposable deadline;

    private Opening(ClientOptions options, Duration limit, MonoSink<T> sink) {
        this.options = options;
        this.limit = limit;
        this.sink = sink;
    }

    /** Runs the steps once for each subscription. */
    static <T> Mono<T> inTime(ClientOptions options, Function<Opening<T>, Mono<T>> steps) {
        return inTime(options, options.connectTimeout(), steps);
    }

    static <T> Mono<T> inTime(ClientOptions options, Duration limit, Function<Opening<T>, Mono<T>> steps) {
        return Mono.create(sink -> new Opening<>(options, limit, sink).start(steps));
    }

    private void start(Function<Opening<T>, Mono<T>> steps) {
        deadline = options.clock().schedule(this::tooLate, limit.toNanos(), TimeUnit.NANOSECONDS);
        Mono.defer(() -> steps.apply(this)).subscribe(this::succeed, this::fail);
    }

    /** Connects. The result is not shielded by itself: a step must not be cancelled by the one beside it. */
    Mono<PostgresqlConnection> connect(PostgresqlConnectionFactory factory) {
        return connect(factory, THREADS);
    }

    Mono<PostgresqlConnection> connect(PostgresqlConnectionFactory factory, Scheduler from) {
        return Mono.defer(factory::create).subscribeOn(from).doOnNext(this::owns);
    }

    /** One more connection that is closed when this ends in vain. */
    void owns(PostgresqlConnection connection) {
        opened.add(connection);
        if (inVain) {
            closeAll();
        }
    }

    private void succeed(T result) {
        if (decide()) {
            sink.success(result);
        } else {
            closeAll();
        }
    }

    private void fail(Throwable error) {
        inVain = true;
        closeAll();
        if (decide()) {
            sink.error(error);
        }
    }

    private void tooLate() {
        if (decide()) {
            inVain = true;
            closeAll();
            sink.error(new TimeoutException("no connection within " + limit.toMillis() + " ms (connectTimeout"
                    + (limit.equals(options.connectTimeout())
                            ? ")"
                            : " is " + options.connectTimeout().toMillis() + " ms)")));
        }
    }

    private boolean decide() {
        if (!decided.compareAndSet(false, true)) {
            return false;
        }
        Disposable timer = deadline;
        if (timer != null) {
            timer.dispose();
        }
        return true;
    }

    private void closeAll() {
        for (PostgresqlConnection next = opened.poll(); next != null; next = opened.poll()) {
            next.close().subscribe(done -> {}, error -> {});
        }
    }
}
