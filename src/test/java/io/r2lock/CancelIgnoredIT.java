package io.r2lock;

import static io.r2lock.TestClients.PATIENCE;
import static io.r2lock.TestClients.execute;
import static io.r2lock.TestClients.since;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import ch.qos.logback.classic.Logger;
import ch.qos.logback.classic.spi.ILoggingEvent;
import ch.qos.logback.core.read.ListAppender;
import java.time.Duration;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Order;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.reactivestreams.Publisher;
import org.reactivestreams.Subscription;
import org.slf4j.LoggerFactory;
import org.slf4j.event.Level;
import reactor.core.Disposable;
import reactor.core.publisher.Flux;
import reactor.core.publisher.Mono;
import reactor.core.scheduler.Schedulers;

/** Work that goes on after its hold has expired cannot be stopped; that it does is told, once. */
@Timeout(60)
class CancelIgnoredIT {

    private static final LockKey A = LockKey.of(10_501);
    private static final Duration SHORT = Duration.ofMillis(100);

    private final TestServer server = TestServer.newest();
    private final Told told = new Told();
    private final ListAppender<ILoggingEvent> log = new ListAppender<>();

    @RegisterExtension
    @Order(2)
    final NoResidue residue = NoResidue.on(server);

    @RegisterExtension
    @Order(1)
    final TestClients clients = new TestClients(residue);

    private DefaultAdvisoryLocks locks;

    @BeforeEach
    void prepare() {
        residue.allowLog(Level.WARN, "io.r2lock.AdvisoryLocks");
        log.start();
        logger().addAppender(log);
        locks = clients.open(server, builder -> builder.listener(told).workScheduler(Schedulers.boundedElastic()));
    }

    @AfterEach
    void unwatch() {
        logger().detachAppender(log);
    }

    private static Logger logger() {
        return (Logger) LoggerFactory.getLogger("io.r2lock");
    }

    private void assertToldOnce(Duration least) {
        Await.until("told", () -> !told.cancelIgnored.isEmpty());
        assertThat(told.cancelIgnored)
                .singleElement()
                .satisfies(since -> assertThat(since).isBetween(least, least.plusSeconds(2)));
        assertThat(log.list)
                .filteredOn(event -> event.getLevel().isGreaterOrEqual(ch.qos.logback.classic.Level.WARN))
                .singleElement()
                .satisfies(event -> assertThat(event.getFormattedMessage()).contains("10501", "ignores its cancel"));
        assertThat(told.lost).as("expired, not lost").isEmpty();
    }

    private void assertExpiresInTime(Publisher<?> work) {
        // connecting takes its time on a busy machine
        locks.withAdvisoryLock(A, Mono.just("warm")).block(PATIENCE);
        long start = System.nanoTime();
        assertThatThrownBy(() -> locks.exclusive(A)
                        .holdAtMost(SHORT)
                        .guardMany(hold -> work)
                        .blockLast(PATIENCE))
                .isInstanceOf(LockHoldExpiredException.class);
        assertThat(since(start)).as("the caller does not wait for it").isLessThan(Duration.ofSeconds(1));
        assertThat(locks.exclusive(A).noWait().guard(Mono.just("free")).block(PATIENCE))
                .isEqualTo("free");
    }

    @Test
    void workThatBlocks() {
        CountDownLatch done = new CountDownLatch(1);
        assertExpiresInTime(Mono.fromCallable(() -> done.await(1500, TimeUnit.MILLISECONDS)));
        assertToldOnce(Duration.ofSeconds(1));
    }

    @Test
    void workThatBlocksBehindItsSubscription() {
        CountDownLatch done = new CountDownLatch(1);
        AtomicBoolean interrupted = new AtomicBoolean();
        assertExpiresInTime(Flux.just(1)
                .concatWith(Flux.<Integer>create(sink -> {
                    try {
                        interrupted.set(done.await(1500, TimeUnit.MILLISECONDS));
                    } catch (InterruptedException stopped) {
                        interrupted.set(true);
                    }
                    sink.next(2);
                }))
                .subscribeOn(Schedulers.boundedElastic()));
        // interrupted by its scheduler: it did stop
        Await.until("stopped", interrupted::get);
        assertThat(told.cancelIgnored).isEmpty();
    }

    @Test
    void publisherThatGoesOnEmitting() {
        AtomicBoolean stop = new AtomicBoolean();
        Disposable[] source = new Disposable[1];
        Publisher<Long> deaf = subscriber -> {
            subscriber.onSubscribe(new Subscription() {
                @Override
                public void request(long n) {}

                @Override
                public void cancel() {}
            });
            source[0] = Flux.interval(Duration.ofMillis(50))
                    .takeUntil(tick -> stop.get())
                    .subscribe(subscriber::onNext, subscriber::onError, subscriber::onComplete);
        };
        assertExpiresInTime(deaf);
        assertToldOnce(Duration.ofSeconds(1));
        Mono.delay(Duration.ofMillis(200)).block(PATIENCE);
        stop.set(true);
        Await.until("completed", source[0]::isDisposed);
        assertThat(told.cancelIgnored).hasSize(1);
    }

    @Test
    void workThatStops_orAnswersAtOnce_isNotReported() {
        assertExpiresInTime(Mono.never());
        assertExpiresInTime(Mono.delay(Duration.ofMillis(1300)));
        assertExpiresInTime(Flux.interval(Duration.ofMillis(1)).onBackpressureDrop());
        assertThatThrownBy(() -> locks.exclusive(A)
                        .holdAtMost(SHORT)
                        .guard((HeldLock hold) -> execute(hold, "select pg_sleep(1.3)"))
                        .block(PATIENCE))
                .isInstanceOf(LockHoldExpiredException.class);
        // a second after its cancel would be too late
        assertExpiresInTime(Mono.fromCallable(() -> new CountDownLatch(1).await(600, TimeUnit.MILLISECONDS)));
        Mono.delay(Duration.ofMillis(1400)).block(PATIENCE);
        assertThat(told.cancelIgnored).isEmpty();
        assertThat(log.list).noneMatch(event -> event.getLevel().isGreaterOrEqual(ch.qos.logback.classic.Level.WARN));
    }

    @Test
    void cancelByTheCaller_isNotReported() {
        CountDownLatch done = new CountDownLatch(1);
        Disposable call = locks.exclusive(A)
                .guard(Mono.fromCallable(() -> done.await(1300, TimeUnit.MILLISECONDS)))
                .subscribe();
        Mono.delay(SHORT).block(PATIENCE);
        call.dispose();
        Mono.delay(Duration.ofMillis(1400)).block(PATIENCE);
        assertThat(told.cancelIgnored).isEmpty();
    }
}
