import io.netty.bootstrap.ServerBootstrap;
import io.netty.buffer.ByteBuf;
import io.netty.buffer.Unpooled;
import io.netty.channel.ChannelHandlerContext;
import io.netty.channel.ChannelInboundHandlerAdapter;
import io.netty.channel.ChannelInitializer;
import io.netty.channel.ChannelOption;
import io.netty.channel.nio.NioEventLoopGroup;
import io.netty.channel.socket.ChannelInputShutdownEvent;
import io.netty.channel.socket.SocketChannel;
import io.netty.channel.socket.nio.NioServerSocketChannel;
import io.netty.handler.codec.LengthFieldBasedFrameDecoder;
import io.netty.util.ReferenceCountUtil;
import java.net.InetSocketAddress;

/**
 * Echo server on netty: bytes as they come, or messages with a four-byte length, high byte first.
 *
 * <p>{@code java EchoNetty raw} or {@code java EchoNetty MAX_FRAME}. Listens on a free port and
 * prints it.
 */
public final class EchoNetty {
    public static void main(String[] arguments) throws InterruptedException {
        boolean isRaw = arguments[0].equals("raw");
        int maxFrame = isRaw ? 0 : Integer.parseInt(arguments[0]);
        ChannelInitializer<SocketChannel> clients = new ChannelInitializer<>() {
            @Override
            protected void initChannel(SocketChannel client) {
                if (!isRaw) {
                    // Whole messages with their headers: nothing is stripped.
                    client.pipeline().addLast(
                            new LengthFieldBasedFrameDecoder(4 + maxFrame, 0, 4, 0, 0, true));
                }
                client.pipeline().addLast(new Echo());
            }
        };
        NioEventLoopGroup loops = new NioEventLoopGroup(2);
        ServerBootstrap server = new ServerBootstrap()
                .group(loops)
                .channel(NioServerSocketChannel.class)
                .childHandler(clients)
                .childOption(ChannelOption.TCP_NODELAY, true)
                .childOption(ChannelOption.ALLOW_HALF_CLOSURE, true);
        InetSocketAddress address =
                (InetSocketAddress) server.bind("127.0.0.1", 0).sync().channel().localAddress();
        System.out.println(address.getPort());
    }

    private static final class Echo extends ChannelInboundHandlerAdapter {
        private boolean isRefused;

        @Override
        public void channelRead(ChannelHandlerContext context, Object message) {
            if (isRefused) {
                ReferenceCountUtil.release(message);
            } else {
                context.write(message);
            }
        }

        @Override
        public void channelReadComplete(ChannelHandlerContext context) {
            context.flush();
        }

        /** Back-pressure: a client that leaves its answers unread is not read from either. */
        @Override
        public void channelWritabilityChanged(ChannelHandlerContext context) {
            context.channel().config().setAutoRead(context.channel().isWritable());
        }

        /** The client's FIN: it gets every answer that it is owed, then ours. */
        @Override
        public void userEventTriggered(ChannelHandlerContext context, Object event) {
            if (event instanceof ChannelInputShutdownEvent) {
                context.writeAndFlush(Unpooled.EMPTY_BUFFER)
                        .addListener(written -> context.close());
            }
        }

        /** A length above the limit: sends the answers owed, then FIN, and drops further input. */
        @Override
        public void exceptionCaught(ChannelHandlerContext context, Throwable cause) {
            if (!(cause.getCause() instanceof java.io.IOException)
                    && cause instanceof io.netty.handler.codec.DecoderException && !isRefused) {
                isRefused = true;
                context.pipeline().remove(LengthFieldBasedFrameDecoder.class);
                context.writeAndFlush(Unpooled.EMPTY_BUFFER).addListener(
                        written -> ((SocketChannel) context.channel()).shutdownOutput());
            } else if (!isRefused || cause instanceof java.io.IOException) {
                context.close();
            }
        }
    }
}
