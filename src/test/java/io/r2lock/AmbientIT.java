package io.r2lock;

class AmbientIT extends AmbientContract {

    AmbientIT() {
        super(TestServer.newest());
    }
}
