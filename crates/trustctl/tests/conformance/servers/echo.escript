#!/usr/bin/env escript
%% Echo server in Erlang, one process per client; {packet, 4} is a four-byte length, high byte
%% first.
%%
%%     escript echo.escript MAX_FRAME [SOCKET]
%%
%% Listens on a free port, or on a unix socket of that path, and prints it.

main([MaxFrame]) ->
    Listener = listen(MaxFrame, [{ip, {127, 0, 0, 1}}, {nodelay, true}]),
    {ok, Port} = inet:port(Listener),
    io:format("~b~n", [Port]),
    accept(Listener);
main([MaxFrame, Socket]) ->
    Listener = listen(MaxFrame, [{ifaddr, {local, Socket}}]),
    io:format("~s~n", [Socket]),
    accept(Listener).

listen(MaxFrame, Place) ->
    Options = [binary, {packet, 4}, {packet_size, list_to_integer(MaxFrame)}, {active, false},
               {exit_on_close, false}, {backlog, 1024} | Place],
    {ok, Listener} = gen_tcp:listen(0, Options),
    Listener.

accept(Listener) ->
    {ok, Client} = gen_tcp:accept(Listener),
    Pid = spawn(fun() -> receive go -> echo(Client) end end),
    ok = gen_tcp:controlling_process(Client, Pid),
    Pid ! go,
    accept(Listener).

%% Echoes until the client is done or announces too much, which packet_size refuses.
echo(Client) ->
    case gen_tcp:recv(Client, 0) of
        {ok, Message} ->
            case gen_tcp:send(Client, Message) of
                ok -> echo(Client);
                {error, _} -> gen_tcp:close(Client)
            end;
        {error, _} ->
            gen_tcp:close(Client)
    end.
