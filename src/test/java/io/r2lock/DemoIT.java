package io.r2lock;

import static org.assertj.core.api.Assertions.assertThat;

import io.r2lock.demo.DemoApplication;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.stream.Stream;
import org.jspecify.annotations.Nullable;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.slf4j.event.Level;
import org.springframework.boot.logging.LoggingSystem;
import org.springframework.context.ConfigurableApplicationContext;
import org.springframework.http.HttpHeaders;
import org.springframework.http.MediaType;
import org.springframework.web.reactive.function.client.ClientResponse;
import org.springframework.web.reactive.function.client.WebClient;
import reactor.core.Disposable;
import reactor.core.publisher.Flux;
import reactor.core.publisher.Mono;

/** The demo as its user sees it: several instances, over HTTP, on one server. */
class DemoIT {

    private static final Duration PATIENCE = Duration.ofSeconds(30);

    private static final TestServer SERVER = TestServer.own(18, Map.of());

    @RegisterExtension
    static final NoResidue RESIDUE = NoResidue.on(SERVER);

    private static ConfigurableApplicationContext first;
    private static ConfigurableApplicationContext second;
    private static ConfigurableApplicationContext impatient;

    @BeforeAll
    static void startAllAtOnce() {
        // the tests have set up logging, and watch it
        System.setProperty(LoggingSystem.SYSTEM_PROPERTY, LoggingSystem.NONE);
        List<ConfigurableApplicationContext> instances =
                Stream.of("30s", "30s", "100ms").parallel().map(DemoIT::start).toList();
        first = instances.get(0);
        second = instances.get(1);
        impatient = instances.get(2);
    }

    @AfterAll
    static void closeAndLeaveNothing() {
        first.close();
        second.close();
        impatient.close();
        System.clearProperty(LoggingSystem.SYSTEM_PROPERTY);
        Await.until("no connection of the demo is left", () -> connections() == 0);
        SERVER.close();
    }

    private static ConfigurableApplicationContext start(String patience) {
        return DemoApplication.start(
                "--server.port=0",
                "--demo.webhook.patience=" + patience,
                "--demo.postgres.url=r2dbc:postgresql://postgres:postgres@localhost:" + SERVER.port() + "/postgres");
    }

    @Test
    void fiftyDeliveriesAtOnceAreProcessedOnce() {
        List<String> answers = answers(Flux.range(0, 50)
                .flatMap(i -> post(i % 2 == 0 ? first : second, "/webhooks/{id}", "42"), 50)
                .map(Answer::body));

        assertThat(answers)
                .hasSize(50)
                .containsOnlyOnce("{\"id\":\"42\",\"result\":\"processed\"}")
                .contains("{\"id\":\"42\",\"result\":\"already processed\"}");
        assertThat(answers).filteredOn(answer -> answer.contains("already")).hasSize(49);
        assertThat(SERVER.count("select count(*) from webhook_deliveries where id = '42'"))
                .isEqualTo(1);
    }

    @Test
    void jobNeverRunsTwiceAtATime() {
        List<Integer> statuses = answers(Flux.range(0, 20)
                .delayElements(Duration.ofMillis(20))
                .flatMap(i -> post(i % 2 == 0 ? first : second, "/jobs/{name}?millis=50", "nightly"), 20)
                .map(Answer::status));

        assertThat(statuses).hasSize(20).contains(200, 409).containsOnly(200, 409);
        assertThat(SERVER.count("select count(*) from job_runs where job = 'nightly' and ended_at is not null"))
                .isEqualTo(statuses.stream().filter(status -> status == 200).count());
        assertThat(SERVER.query("""
                        select * from job_runs a join job_runs b on a.job = b.job and a.id < b.id
                        where a.job = 'nightly'
                          and tstzrange(a.started_at, a.ended_at) && tstzrange(b.started_at, b.ended_at)""")).isEmpty();
    }

    @Test
    void busyJobIsAProblemThatNamesIt() {
        Answer busy = whileLocked(LockKey.named("job", "a \"job\""), post(first, "/jobs/{name}", "a \"job\""));

        assertThat(busy.status()).isEqualTo(409);
        assertThat(busy.type()).isEqualTo(MediaType.APPLICATION_PROBLEM_JSON);
        assertThat(busy.body()).contains("\"job\":\"a \\\"job\\\"\"").contains("Busy: no exclusive lock");
    }

    @Test
    void cancelledJobFreesItsLock() {
        Disposable caller = post(first, "/jobs/{name}?millis=60000", "cut").subscribe();
        Await.until("the job runs", () -> SERVER.count("select count(*) from job_runs where job = 'cut'") == 1);
        assertThat(answer(post(second, "/jobs/{name}", "cut")).status()).isEqualTo(409);

        caller.dispose();

        Await.until(
                "the job can run again",
                () -> answer(post(second, "/jobs/{name}?millis=0", "cut")).status() == 200);
    }

    @Test
    void busyWebhookAsksToTryAgain() {
        RESIDUE.allowLog(Level.WARN, "io.r2lock.demo");

        Answer late = whileLocked(LockKey.named("webhook", "slow"), post(impatient, "/webhooks/{id}", "slow"));

        assertTryAgain(late);
        assertThat(answer(post(first, "/webhooks/{id}", "slow")).body()).contains("\"processed\"");
    }

    @Test
    void serverThatIsDownAsksToTryAgain() {
        RESIDUE.allowLog(Level.WARN, "io.r2lock");
        SERVER.stop();
        try {
            assertTryAgain(answer(post(first, "/webhooks/{id}", "down")));
            assertTryAgain(answer(post(second, "/jobs/{name}", "down")));
        } finally {
            SERVER.start();
        }
        assertThat(answer(post(first, "/webhooks/{id}", "down")).status()).isEqualTo(200);
        assertThat(answer(post(second, "/jobs/{name}?millis=0", "down")).status())
                .isEqualTo(200);
    }

    @Test
    void badRequestsAreRefused() {
        List<Mono<Answer>> requests = List.of(
                post(first, "/webhooks/{id}", "x".repeat(201)),
                post(first, "/webhooks/{id}", "nul\0"),
                post(first, "/jobs/{name}", "x".repeat(201)),
                post(first, "/jobs/{name}?millis=60001", "long"),
                post(first, "/jobs/{name}?millis=-1", "past"),
                post(first, "/jobs/{name}?millis=soon", "word"));
        for (Mono<Answer> request : requests) {
            Answer refused = answer(request);
            assertThat(refused.status()).as(refused.toString()).isEqualTo(400);
            assertThat(refused.type()).isEqualTo(MediaType.APPLICATION_PROBLEM_JSON);
        }
        assertThat(answer(post(first, "/webhooks/{id}", "ü/'%".repeat(50))).status())
                .isEqualTo(200);
    }

    @Test
    void pageHasTheCommandsForThisInstance() {
        String url = "http://localhost:" + port(first);

        Answer page = answer(client(first).get().uri("/").exchangeToMono(Answer::of));

        assertThat(page.status()).isEqualTo(200);
        assertThat(page.type())
                .isNotNull()
                .satisfies(type ->
                        assertThat(type.isCompatibleWith(MediaType.TEXT_HTML)).isTrue());
        assertThat(page.body())
                .contains("xargs -P 50 -I@ curl", "-X POST " + url + "/webhooks/42")
                .contains("-X POST " + url + "/jobs/nightly")
                .contains("mvn -Pdemo -Dserver.port=" + (port(first) + 1) + " -Ddemo.postgres.url=THE-URL-YOU-GAVE")
                .contains("&amp; curl")
                .doesNotContain("postgres:postgres");
    }

    private static void assertTryAgain(Answer answer) {
        assertThat(answer.status()).isEqualTo(503);
        assertThat(answer.type()).isEqualTo(MediaType.APPLICATION_PROBLEM_JSON);
        assertThat(answer.retryAfter()).isEqualTo("1");
    }

    /** Asks while another process, as it were, holds the lock. */
    private static Answer whileLocked(LockKey key, Mono<Answer> request) {
        AdvisoryLocks others = AdvisoryLocks.create(SERVER.connectionFactory());
        return answer(
                Mono.usingWhen(Mono.just(others), locks -> locks.withAdvisoryLock(key, request), AdvisoryLocks::close));
    }

    private static Mono<Answer> post(ConfigurableApplicationContext instance, String uri, String name) {
        return client(instance).post().uri(uri, name).exchangeToMono(Answer::of);
    }

    private static WebClient client(ConfigurableApplicationContext instance) {
        return WebClient.create("http://localhost:" + port(instance));
    }

    private static int port(ConfigurableApplicationContext instance) {
        return instance.getEnvironment().getRequiredProperty("local.server.port", Integer.class);
    }

    private static Answer answer(Mono<Answer> request) {
        return Objects.requireNonNull(request.block(PATIENCE));
    }

    private static <T> List<T> answers(Flux<T> requests) {
        return Objects.requireNonNull(requests.collectList().block(PATIENCE));
    }

    private static long connections() {
        return SERVER.count("select count(*) from pg_stat_activity where application_name in ('demo', 'r2lock-demo')");
    }

    private record Answer(
            int status, @Nullable MediaType type, @Nullable String retryAfter, String body) {

        static Mono<Answer> of(ClientResponse response) {
            HttpHeaders headers = response.headers().asHttpHeaders();
            return response.bodyToMono(String.class)
                    .defaultIfEmpty("")
                    .map(body -> new Answer(
                            response.statusCode().value(),
                            headers.getContentType(),
                            headers.getFirst(HttpHeaders.RETRY_AFTER),
                            body));
        }
    }
}
